"""The one module from film to volume: autoencoder, film encoder, denoiser, and what they were trained with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from monai.networks.nets import AutoencoderKL
from torch import Tensor

from bundle.geometry import Grid
from bundle.networks.conditioning import TwoPathUNet
from bundle.networks.denoiser import Denoiser
from bundle.networks.film_edges import film_edges
from bundle.networks.film_encoder import FilmEncoder
from bundle.networks.film_pyramid import FilmPyramid
from bundle.networks.identity import DescribedNetwork, text_tensor
from bundle.networks.mean_head import MeanHead
from bundle.readings import GradeTable
from bundle.readings import grade_table as named_table
from bundle.sampling import FittingBatches, NoiseSchedule, guided, slice_noise


class FilmToVolume(DescribedNetwork):
    """A film in, a volume out; every weight that this takes is in its `state_dict`.

    Args:
        autoencoder: of slices and of films.
        unet: the denoiser's UNet.
        film_encoder: the film's context token; None where `film_conditioning` has none.
        schedule: noise schedule; what the denoiser predicts is its choice.
        image_size: H and W of film and volume.
        slices: S.
        grade_table: name of the readings' grade table.
        missing_readings: policy for missing readings, see `GradeTable.encode`.
        sampling_steps: calls of the denoiser a slice.
        slice_batch: how many slices go through the denoiser at once; fewer where memory is short.
        decode_batch: how many are decoded at once. Few, so that a CPU's cache holds them: 5 at a time took 0.6 of the
            time of 50 (128 x 128, one core).
        noise_correlation: `shared`, `independent` or `correlated`, see `slice_noise`.
        noise_length_mm: length of `correlated`.
        guidance_scale: how far the conditions are followed, see `guided`; other than 1 doubles the calls, and the
            denoiser must have been trained with conditions withheld.
        scale_film_latent: whether the concatenated film latent is scaled as the slices' is (the paper's is not).
        film_latent: whether the film's latent is concatenated at all.
        film_pyramid: features of the film at full resolution, beside or in place of its latent.
        mean_head: where there is one, the denoiser learns what it leaves over, see `residual_scale`.
        film_conditioning: how the denoiser is told of the film, of `FILM_CONDITIONINGS`; `paper` unless the network
            is a baseline.

    Raises:
        ValueError: if a part is there that `film_conditioning` has no use for, or one is absent that it needs, or
            one part is told covariates and the other not.
    """

    scale_factor: Tensor
    residual_scale: Tensor

    def __init__(
        self,
        *,
        autoencoder: AutoencoderKL,
        unet: TwoPathUNet,
        film_encoder: FilmEncoder | None,
        schedule: NoiseSchedule,
        image_size: int,
        slices: int,
        grade_table: str = "oai",
        missing_readings: str = "zeros",
        sampling_steps: int = 8,
        slice_batch: int = 50,
        decode_batch: int = 5,
        noise_correlation: str = "shared",
        noise_length_mm: float = 6.0,
        guidance_scale: float = 1.0,
        scale_film_latent: bool = True,
        film_latent: bool = True,
        film_pyramid: FilmPyramid | None = None,
        mean_head: MeanHead | None = None,
        film_conditioning: str = "paper",
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.denoiser = Denoiser(
            unet=unet,
            film_encoder=film_encoder,
            film_pyramid=film_pyramid,
            film_latent=film_latent,
            mean=mean_head is not None,
            film_conditioning=film_conditioning,
        )
        self.mean_head = mean_head
        if mean_head is not None and mean_head.covariates_width != self.covariates_width:
            raise ValueError(
                f"`covariates_width` must be the same in `unet` and `mean_head`, got {self.covariates_width} and "
                f"{mean_head.covariates_width}; the id `covariates` of the configs sets both."
            )
        self.schedule = schedule
        self.grid = Grid.of(image_size=image_size, slices=slices)
        unet.see_stacks(span_mm=(self.grid.slices - 1) * self.grid.slice_spacing_mm, slice_batch=slice_batch)
        self.missing_readings = missing_readings
        self.grade_table = grade_table_of(grade_table, unet, missing_readings)
        self.sampling_steps = sampling_steps
        self.slice_batch, self.decode_batch = slice_batch, decode_batch
        self.noise_correlation = noise_correlation
        self.noise_length_mm = noise_length_mm
        self.guidance_scale = guidance_scale
        self.scale_film_latent = scale_film_latent
        self.register_buffer("scale_factor", torch.tensor(1.0))
        if mean_head is not None:  # weights without a mean head have no such number
            self.register_buffer("residual_scale", torch.tensor(1.0))
        self.describe()
        if film_conditioning != "paper":  # weights of before this choice have no such text
            self.register_buffer("film_conditioning", text_tensor(film_conditioning))
            self.descriptions = (*self.descriptions, "film_conditioning")
        # the order that convolutions like: 0.9 of a call's time and 0.8 of a decoding's on a CPU (docs/performance.md)
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        film: Tensor,
        readings: Tensor | None = None,
        *,
        covariates: Tensor | None = None,
        tokens: Tensor | None = None,
        slices: int | None = None,
        depths: Tensor | None = None,
        steps: int | None = None,
        seed: int = 0,
        sample: int = 0,
        mean: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Synthesise volumes.

        Args:
            film: (B, 1, H, W) in [-1, 1], canonical right knees on the grid.
            readings: (B, readings_width); None means that nothing is known of any knee.
            covariates: (B, covariates_width), of `bundle.covariates.encode`, where the UNet was built for them.
            tokens: (B, N, context_dim), context beside the film's token, where the UNet was built with `extra_tokens`.
            slices: how many, evenly over the window; None means the grid's.
            depths: instead of `slices`, the depths to synthesise, (S,) in [0, 1]. Where slices see each other, those of
                the grid that are not among them are sampled with them and left out of the result.
            steps: sampling steps; None means `sampling_steps`.
            seed: of the noise: the same seed, film and sample give the same volume.
            sample: index of the sample among several of one film.
            mean: give the mean head's volume, in one step and without sampling.
            progress: called with the number of slices done.

        Returns:
            (B, 1, H, W, S) in [-1, 1].

        Raises:
            ValueError: if the film's, the readings' or the covariates' shape is not the network's, it was built
                without covariates, or `mean` is asked of one without a mean head.
        """
        self.check_input(film, readings)
        self.check_covariates(covariates, count=len(film))
        if readings is None:
            missing = self.grade_table.encode(None, policy=self.missing_readings)
            readings = torch.from_numpy(missing).to(film).expand(film.shape[0], -1)
        if depths is None:
            depths = torch.from_numpy(self.grid.depths(slices))
        depths = depths.to(film.device, torch.float32)
        steps = steps or self.sampling_steps
        if mean:
            knees = self.mean_latents(film, readings, depths, covariates=covariates)
            return torch.stack([self._decode(knee, FittingBatches(self.decode_batch), progress) for knee in knees])
        asked = len(depths)
        depths = self._with_neighbours(depths)
        positions_mm = depths.cpu().double().numpy() * (self.grid.slices - 1) * self.grid.slice_spacing_mm
        means = None if self.mean_head is None else self.mean_latents(film, readings, depths, covariates=covariates)
        if covariates is None and self.covariates_width:
            # zeros are what training says of unknown covariates, under either policy
            covariates = film.new_zeros(film.shape[0], self.covariates_width)
        film_latent = self.encode_film(film)
        context = self.denoiser.token(film)
        features = self.denoiser.film_pyramid(film) if self.denoiser.film_pyramid is not None else None
        channels, (height, width) = self.denoiser.unet.out_channels, film_latent.shape[2:]

        def draw(number: int) -> Tensor:
            noise = slice_noise(
                (channels, height, width),
                positions_mm,
                seed=seed,
                sample=sample,
                draw=number,
                correlation=self.noise_correlation,
                length_mm=self.noise_length_mm,
            )
            return noise.to(film)

        noise, count = draw(0), len(depths)
        # a decoder needs more memory than a denoiser, so each finds its own size
        denoising, decoding = FittingBatches(self.slice_batch), FittingBatches(self.decode_batch)
        volumes = []
        for knee in range(film.shape[0]):
            conditions = {
                "depth": depths,
                "readings": readings[knee].expand(count, -1),
                "film_latent": film_latent[knee].expand(count, -1, -1, -1),
                "context": context[knee].expand(count, -1, -1),
                "features": None if features is None else [level[knee].expand(count, -1, -1, -1) for level in features],
                "mean": None if means is None else means[knee],
                "covariates": None if covariates is None else covariates[knee].expand(count, -1),
                "tokens": None if tokens is None else tokens[knee].expand(count, -1, -1),
            }
            predict = partial(self._predict, conditions, denoising)
            latent = self.schedule.sample(predict, noise, steps=steps, fresh=lambda step: draw(step + 1))
            latent = latent if means is None else means[knee] + latent / self.residual_scale
            volumes.append(self._decode(latent[:asked], decoding, progress))
        return torch.stack(volumes)

    def _with_neighbours(self, depths: Tensor) -> Tensor:
        """Depths, and behind them those of the grid that none of them stands for: what a mixer was trained to see.

        So a slice of the grid that is asked for alone is the volume's own.
        """
        if self.denoiser.unet.mixers is None:
            return depths
        grid = torch.from_numpy(self.grid.depths()).to(depths)
        nearest = (grid[:, None] - depths).abs().amin(dim=1)
        half = 0.5 / (self.grid.slices - 1)
        return torch.cat([depths, grid[nearest > half - 1e-4]])

    def _predict(self, conditions: dict[str, Any], batches: FittingBatches, latent: Tensor, time: Tensor) -> Tensor:
        """The denoiser on all slices of a volume, with guidance; in batches, unless the slices see each other."""
        stacked = self.denoiser.unet.mixers is not None

        def work(part: slice) -> Tensor:
            told = {name: _part_of(value, part) for name, value in conditions.items()}
            if stacked:
                told["depth"] = told["depth"][None]
            everything = torch.ones(len(latent[part]), dtype=torch.bool, device=latent.device)
            predict = guided(
                partial(self.denoiser, **told),
                partial(self.denoiser, **told, withheld=everything),
                scale=self.guidance_scale,
            )
            return predict(latent[part], time[part])

        if not stacked:
            return batches(work, len(latent))

        def whole(size: int) -> Tensor:
            self.denoiser.unet.slice_batch = size
            return work(slice(0, len(latent)))

        # a stack that were split would be another volume; its UNet batches what treats slices alone
        return batches.within(whole, len(latent))

    def _decode(self, latent: Tensor, batches: FittingBatches, progress: Callable[[int], None] | None) -> Tensor:
        """Latents of a volume's slices, (S, C, h, w), to the volume, (1, H, W, S)."""

        def work(part: slice) -> Tensor:
            image = self.decode(latent[part])
            if progress:
                progress(part.stop)
            return image

        return batches(work, len(latent))[:, 0].permute(1, 2, 0)[None]

    def mean_latents(
        self, film: Tensor, readings: Tensor, depths: Tensor, *, covariates: Tensor | None = None
    ) -> Tensor:
        """The mean head's latents of films (B, 1, H, W) at depths (B, S), or (S,) for all alike: (B, S, C, h, w)."""
        head = self.check_mean_head()
        return head.at(head.coefficients(film, readings, covariates=covariates), depths)

    @property
    def covariates_width(self) -> int:
        """Length of the covariates' vector; 0 where the network was built without them."""
        return self.denoiser.unet.covariates_width

    def check_covariates(self, covariates: Tensor | None, *, count: int) -> None:
        """Raise ValueError on covariates that are not (count, covariates_width)."""
        if covariates is None:
            return
        if not self.covariates_width:
            raise ValueError(
                "`covariates` need a network that was built with `covariates_width`, and this one has none; train "
                "with `--covariates zeros` or `mask`, or leave them out."
            )
        if tuple(covariates.shape) != (count, self.covariates_width):
            raise ValueError(
                f"`covariates` must have shape ({count}, {self.covariates_width}), got {tuple(covariates.shape)}; "
                "`bundle.transforms.EncodeCovariatesd` makes the vector."
            )

    def check_mean_head(self) -> MeanHead:
        """The mean head; ValueError where there is none to ask."""
        if self.mean_head is None:
            raise ValueError(
                "`mean` needs weights with a mean head, and these have none; configs/train.json trains such weights."
            )
        return self.mean_head

    def encode_film(self, film: Tensor) -> Tensor:
        """The latent that is concatenated, (B, C, h, w): the autoencoder's mean; with the edges' (B, 2 C, h, w)."""
        mean = self.autoencoder.encode(film)[0]
        if self.denoiser.gates is not None:
            mean = torch.cat([mean, self.autoencoder.encode(film_edges(film))[0]], dim=1)
        return mean * self.scale_factor if self.scale_film_latent else mean

    def decode(self, latent: Tensor) -> Tensor:
        """Images of scaled latents: (N, C, h, w) to (N, 1, H, W) in [-1, 1]."""
        image = self.autoencoder.decode(latent / self.scale_factor)
        # an autoencoder of colour images is given grey ones; what it decodes is nearly grey
        image = image.mean(dim=1, keepdim=True) if image.shape[1] > 1 else image
        return image.clamp(-1.0, 1.0)


def _part_of(value: Tensor | list[Tensor] | None, part: slice) -> Any:
    """The slices' part of a condition: of None, of a tensor, or of every tensor of a list."""
    if isinstance(value, list):
        return [item[part] for item in value]
    return None if value is None else value[part]


def grade_table_of(name: str, unet: TwoPathUNet, policy: str) -> GradeTable:
    """The named grade table, checked against the width that the UNet was built for.

    Args:
        name: of the table, `oai` or `paper`.
        unet: whose readings head is checked.
        policy: what becomes of missing readings; `mask` is wider.

    Raises:
        ValueError: if the widths differ.
    """
    table = named_table(name)
    width = unet.readings_width
    if table.vector_width(policy) != width:
        raise ValueError(
            f"`readings_width` of the UNet must be {table.vector_width(policy)} (grade table `{name}`, missing "
            f"readings `{policy}`), got {width}."
        )
    return table
