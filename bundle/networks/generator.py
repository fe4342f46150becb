"""The one module from film to volume: autoencoder, film encoder, denoiser, and what they were trained with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from monai.networks.nets import AutoencoderKL
from torch import Tensor, nn

from bundle.geometry import Grid
from bundle.networks.conditioning import TwoPathUNet, freeze_one_token_attention
from bundle.networks.film_encoder import FilmEncoder
from bundle.readings import GradeTable
from bundle.readings import grade_table as named_table
from bundle.sampling import NoiseSchedule, guided, slice_noise

TEXT_BYTES = 512
"""Room for a text, such as what the weights were trained on, among the tensors of a weights file."""


class Denoiser(nn.Module):
    """What stage 2 trains: the UNet with its heads, and the film's context token.

    Args:
        unet: the two-path UNet; its input is the noised latent beside the film's latent.
        film_encoder: gives the context token.
    """

    def __init__(self, *, unet: TwoPathUNet, film_encoder: FilmEncoder) -> None:
        super().__init__()
        self.unet = unet
        self.film_encoder = film_encoder
        freeze_one_token_attention(unet)

    def forward(
        self,
        noisy: Tensor,
        time: Tensor,
        *,
        depth: Tensor,
        readings: Tensor,
        film_latent: Tensor,
        film: Tensor | None = None,
        context: Tensor | None = None,
        covariates: Tensor | None = None,
        withheld: Tensor | None = None,
    ) -> Tensor:
        """Predict what the schedule asks for, for N slices.

        Args:
            noisy: noised latents, (N, C, h, w).
            time: (N,), on the schedule's scale.
            depth: (N,) in [0, 1].
            readings: (N, readings_width).
            film_latent: (N, C, h, w).
            film: (N, 1, H, W), encoded to the context; or else
            context: (N, tokens, context_dim), encoded before: once a volume is enough.
            covariates: (N, covariates_width), where the UNet was built for them.
            withheld: (N,), true for items whose film, readings and covariates are to be unknown: zeros in their
                place, for classifier-free guidance (Liu et al., "Zero-1-to-3", section 3.2, does so). Depth stays.

        Returns:
            (N, C, h, w).
        """
        if context is None:
            context = self.film_encoder(film)
        if withheld is not None:
            known = (~withheld.bool()).to(noisy)
            film_latent, context = film_latent * known.view(-1, 1, 1, 1), context * known.view(-1, 1, 1)
            readings = readings * known[:, None]
            covariates = None if covariates is None else covariates * known[:, None]
        stacked = torch.cat([noisy, film_latent], dim=1)
        return self.unet(stacked, time, context, depth=depth, readings=readings, covariates=covariates)


class FilmToVolume(nn.Module):
    """A film in, a volume out; every weight that this takes is in its `state_dict`.

    Args:
        autoencoder: of slices and of films.
        unet: the denoiser's UNet.
        film_encoder: the film's context token.
        schedule: noise schedule; what the denoiser predicts is its choice.
        image_size: H and W of film and volume.
        slices: S.
        grade_table: name of the readings' grade table.
        missing_readings: policy for missing readings, see `GradeTable.encode`.
        sampling_steps: calls of the denoiser a slice.
        slice_batch: how many slices go through the networks at once.
        noise_correlation: `shared`, `independent` or `correlated`, see `slice_noise`.
        noise_length_mm: length of `correlated`.
        guidance_scale: how far the conditions are followed, see `guided`; other than 1 doubles the calls, and the
            denoiser must have been trained with conditions withheld.
        scale_film_latent: whether the concatenated film latent is scaled as the slices' is (the paper's is not).
    """

    scale_factor: Tensor
    grid_description: Tensor
    grade_description: Tensor
    trained_on: Tensor

    def __init__(
        self,
        *,
        autoencoder: AutoencoderKL,
        unet: TwoPathUNet,
        film_encoder: FilmEncoder,
        schedule: NoiseSchedule,
        image_size: int,
        slices: int,
        grade_table: str = "oai",
        missing_readings: str = "zeros",
        sampling_steps: int = 8,
        slice_batch: int = 50,
        noise_correlation: str = "shared",
        noise_length_mm: float = 6.0,
        guidance_scale: float = 1.0,
        scale_film_latent: bool = True,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.denoiser = Denoiser(unet=unet, film_encoder=film_encoder)
        self.schedule = schedule
        self.grid = Grid.of(image_size=image_size, slices=slices)
        unet.see_stacks(span_mm=(self.grid.slices - 1) * self.grid.slice_spacing_mm, slice_batch=slice_batch)
        self.missing_readings = missing_readings
        self.grade_table = grade_table_of(grade_table, unet, missing_readings)
        self.sampling_steps = sampling_steps
        self.slice_batch = slice_batch
        self.noise_correlation = noise_correlation
        self.noise_length_mm = noise_length_mm
        self.guidance_scale = guidance_scale
        self.scale_film_latent = scale_film_latent
        self.register_buffer("scale_factor", torch.tensor(1.0))
        self.register_buffer("grid_description", _grid_tensor(self.grid))
        self.register_buffer("grade_description", text_tensor(_describe(self.grade_table, missing_readings)))
        self.register_buffer("trained_on", text_tensor("nothing"))
        self._register_load_state_dict_pre_hook(self._check_identity)

    def forward(
        self,
        film: Tensor,
        readings: Tensor | None = None,
        *,
        covariates: Tensor | None = None,
        slices: int | None = None,
        depths: Tensor | None = None,
        steps: int | None = None,
        seed: int = 0,
        sample: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Synthesise volumes.

        Args:
            film: (B, 1, H, W) in [-1, 1], canonical right knees on the grid.
            readings: (B, readings_width); None means that nothing is known of any knee.
            covariates: (B, covariates_width), of `bundle.covariates.encode`, where the UNet was built for them.
            slices: how many, evenly over the window; None means the grid's.
            depths: instead of `slices`, the depths to synthesise, (S,) in [0, 1].
            steps: sampling steps; None means `sampling_steps`.
            seed: of the noise: the same seed, film and sample give the same volume.
            sample: index of the sample among several of one film.
            progress: called with the number of slices done.

        Returns:
            (B, 1, H, W, S) in [-1, 1].

        Raises:
            ValueError: if the film's or the readings' shape is not the network's.
        """
        self._check_input(film, readings)
        if readings is None:
            missing = self.grade_table.encode(None, policy=self.missing_readings)
            readings = torch.from_numpy(missing).to(film).expand(film.shape[0], -1)
        if depths is None:
            depths = torch.from_numpy(self.grid.depths(slices))
        depths = depths.to(film.device, torch.float32)
        steps = steps or self.sampling_steps
        positions_mm = depths.cpu().double().numpy() * (self.grid.slices - 1) * self.grid.slice_spacing_mm
        film_latent = self.encode_film(film)
        context = self.denoiser.film_encoder(film)
        channels, height, width = film_latent.shape[1:]

        def draw(number: int) -> Tensor:
            return slice_noise(
                (channels, height, width),
                positions_mm,
                seed=seed,
                sample=sample,
                draw=number,
                correlation=self.noise_correlation,
                length_mm=self.noise_length_mm,
            )

        noise = draw(0)
        # slices that see each other go through the denoiser together; the UNet bounds its memory itself
        stacked = self.denoiser.unet.mixers is not None
        size = len(depths) if stacked else self.slice_batch
        volumes = []
        for knee in range(film.shape[0]):
            images: list[Tensor] = []
            for start in range(0, len(depths), size):
                part = slice(start, min(start + size, len(depths)))
                count = part.stop - part.start
                conditions = {
                    "depth": depths[part][None] if stacked else depths[part],
                    "readings": readings[knee].expand(count, -1),
                    "film_latent": film_latent[knee].expand(count, -1, -1, -1),
                    "context": context[knee].expand(count, -1, -1),
                    "covariates": None if covariates is None else covariates[knee].expand(count, -1),
                }
                everything = torch.ones(count, dtype=torch.bool, device=film.device)
                predict = guided(
                    partial(self.denoiser, **conditions),
                    partial(self.denoiser, **conditions, withheld=everything),
                    scale=self.guidance_scale,
                )
                # a step's noise is drawn for the whole volume, so that batches of slices fit together
                fresh = partial(_part_of, draw, part, film)
                latent = self.schedule.sample(predict, noise[part].to(film), steps=steps, fresh=fresh)
                images.extend(self.decode(piece) for piece in latent.split(self.slice_batch))
                if progress:
                    progress(part.stop)
            volumes.append(torch.cat(images)[:, 0].permute(1, 2, 0)[None])
        return torch.stack(volumes)

    def encode_film(self, film: Tensor) -> Tensor:
        """The latent that is concatenated, (B, C, h, w): the autoencoder's mean."""
        mean = self.autoencoder.encode(film)[0]
        return mean * self.scale_factor if self.scale_film_latent else mean

    def decode(self, latent: Tensor) -> Tensor:
        """Images of scaled latents: (N, C, h, w) to (N, 1, H, W) in [-1, 1]."""
        image = self.autoencoder.decode(latent / self.scale_factor)
        # an autoencoder of colour images is given grey ones; what it decodes is nearly grey
        image = image.mean(dim=1, keepdim=True) if image.shape[1] > 1 else image
        return image.clamp(-1.0, 1.0)

    def provenance(self) -> str:
        """What the weights were trained on."""
        return text_of(self.trained_on)

    def _check_input(self, film: Tensor, readings: Tensor | None) -> None:
        expected = (1, self.grid.rows, self.grid.columns)
        if film.ndim != 4 or tuple(film.shape[1:]) != expected:
            raise ValueError(
                f"`film` must have shape (B, {', '.join(map(str, expected))}), got {tuple(film.shape)}; "
                "`bundle.data.CropKneed` cuts it to the grid."
            )
        width = self.grade_table.vector_width(self.missing_readings)
        if readings is not None and tuple(readings.shape) != (film.shape[0], width):
            raise ValueError(
                f"`readings` must have shape ({film.shape[0]}, {width}), got {tuple(readings.shape)}; "
                "`bundle.transforms.EncodeReadingsd` makes the vector."
            )

    def _check_identity(self, state: dict, prefix: str, *_: object) -> None:
        """Refuse weights that speak of another grid or other readings; shapes alone would not show it."""
        for name, show in (("grid_description", _list), ("grade_description", text_of)):
            theirs, ours = state.get(prefix + name), getattr(self, name)
            if theirs is not None and not torch.equal(theirs.to(ours), ours):
                raise ValueError(
                    f"`{name}` of the weights is {show(theirs)}, of the network {show(ours)}; "
                    "build the network with the weights' values."
                )


def _part_of(draw: Callable[[int], Tensor], part: slice, like: Tensor, step: int) -> Tensor:
    """The noise that a sampler adds in a step, for a part of the slices; draw 0 is the start's."""
    return draw(step + 1)[part].to(like)


def grade_table_of(name: str, unet: TwoPathUNet, policy: str) -> GradeTable:
    """The named grade table, checked against the width that the UNet was built for."""
    table = named_table(name)
    width = unet.readings_head[0].in_features
    if table.vector_width(policy) != width:
        raise ValueError(
            f"`readings_width` of the UNet must be {table.vector_width(policy)} (grade table `{name}`, missing "
            f"readings `{policy}`), got {width}."
        )
    return table


def text_tensor(text: str) -> Tensor:
    """`text` as (TEXT_BYTES,) uint8, zero-padded; ValueError where it is longer."""
    data = text.encode()
    if len(data) > TEXT_BYTES:
        raise ValueError(f"`text` must have at most {TEXT_BYTES} bytes, got {len(data)}.")
    return torch.tensor(list(data.ljust(TEXT_BYTES, b"\0")), dtype=torch.uint8)


def text_of(tensor: Tensor) -> str:
    """The text in a tensor of `text_tensor`."""
    return bytes(tensor.tolist()).rstrip(b"\0").decode(errors="replace")


def _describe(table: GradeTable, policy: str) -> str:
    return f"{table.name}:{policy}:" + ",".join(f"{name}={top}" for name, top in table.highest.items())


def _grid_tensor(grid: Grid) -> Tensor:
    return torch.tensor([*grid.shape, grid.spacing_mm, grid.slice_spacing_mm], dtype=torch.float64)


def _list(tensor: Tensor) -> list[float]:
    return [round(value, 4) for value in tensor.tolist()]
