"""Baseline: a convolutional autoencoder of films whose code a 3-D generator turns into a volume, after its paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from bundle.geometry import Grid
from bundle.networks.between_slices import at_depths
from bundle.networks.identity import DescribedNetwork
from bundle.readings import grade_table as named_table

WIDEST = 1024
"""Channels of the code, and the most that a block has."""


class CAE(nn.Module):
    """Encoder, decoder and generator.

    Unpadded 3 x 3 convolutions of stride 2 bring 128 pixels to 1 in the published six blocks, and 4 x 4 transposed
    ones of stride 2 bring 1 to 128 in seven, in two dimensions and in three; other sizes have a block more or fewer for
    each halving. The tail from the generator's cube to slices is a decision (docs/decisions/011).

    Args:
        image_size: edge of film and slices; a power of two, at least 8.
        slices: that the generator gives.
        width: channels of the first block; each further one doubles them, up to 1024.
        tail: filters of the two 1 x 1 convolutions before the slices.

    Raises:
        ValueError: if `image_size` is no such power.

    Source:
        Wang, Chetouani, Jennane, "Feasibility study for reconstruction of knee MRI from one corresponding X-ray via
        CNN", 2025, arXiv 2503.13555; a re-implementation.
    """

    def __init__(self, *, image_size: int, slices: int = 20, width: int = 32, tail: Sequence[int] = (8, 128)) -> None:
        super().__init__()
        doublings = image_size.bit_length() - 1
        if image_size != 2**doublings or doublings < 3:
            raise ValueError(f"`image_size` must be a power of two of at least 8, got {image_size}.")
        down = [min(width * 2**level, WIDEST) for level in range(doublings - 1)]
        self.encoder = nn.Sequential(*(_down(before, here) for before, here in zip([1, *down[:-1]], down, strict=True)))
        up = [down[-1], *reversed(down)]
        self.decoder = nn.Sequential(
            *(_up(nn.ConvTranspose2d, nn.BatchNorm2d, *pair) for pair in pairwise(up)),
            nn.ConvTranspose2d(up[-1], 1, 4, stride=2, padding=1),
        )
        self.generator = nn.Sequential(
            *(_up(nn.ConvTranspose3d, nn.BatchNorm3d, *pair) for pair in zip(up, [*up[1:], 1], strict=True)),
            nn.Conv3d(1, tail[0], 1),
            nn.ReLU(),
            DepthToChannels(),
            nn.Conv2d(tail[0] * image_size, tail[1], 1),
            nn.ReLU(),
            nn.Conv2d(tail[1], slices, 1),
        )

    def forward(self, film: Tensor) -> tuple[Tensor, Tensor]:
        """Films (B, 1, H, W) in [-1, 1] to films and volumes (B, 1, H, W, slices), neither clamped."""
        code = self.encoder(film)
        return self.decoder(code), self.volume_of(code)

    def volume_of(self, code: Tensor) -> Tensor:
        """The generator alone: codes (B, C, 1, 1) to volumes (B, 1, H, W, slices)."""
        return self.generator(code[..., None]).permute(0, 2, 3, 1)[:, None]


class CAEGenerator(DescribedNetwork):
    """`CAE` on the model's grid, called as the model is.

    The published slices are 20. Here they lie evenly over the grid's window, first and last slice where the grid's
    are, and the slices between them are interpolated linearly over depth.

    Args:
        image_size: H and W.
        slices: S of the grid.
        generated_slices: that the generator gives.
        width, tail: of `CAE`.
        grade_table, missing_readings: of the readings that a call may bring; they are not used.
    """

    sampling_steps = 1
    schedule = None

    def __init__(
        self,
        *,
        image_size: int,
        slices: int,
        generated_slices: int = 20,
        width: int = 32,
        tail: Sequence[int] = (8, 128),
        grade_table: str = "oai",
        missing_readings: str = "zeros",
    ) -> None:
        super().__init__()
        self.cae = CAE(image_size=image_size, slices=generated_slices, width=width, tail=tail)
        self.grid = Grid.of(image_size=image_size, slices=slices)
        self.grade_table, self.missing_readings = named_table(grade_table), missing_readings
        self.describe()

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
        mean: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """A volume for each film.

        Args:
            film: (B, 1, H, W) in [-1, 1], canonical right knees on the grid.
            readings: ignored, as are covariates, steps, seed and sample: the network sees the film and draws nothing.
            covariates: ignored.
            slices: how many, evenly over the window; None means the grid's.
            depths: instead of `slices`, the depths wanted, (S,) in [0, 1].
            steps: ignored.
            seed: ignored.
            sample: ignored.
            mean: refused, as by a model without a mean head.
            progress: called with the number of slices done.

        Returns:
            (B, 1, H, W, S) in [-1, 1].

        Raises:
            ValueError: if the film's or the readings' shape is not the network's, or `mean` is asked for.
        """
        self.check_input(film, readings)
        if mean:
            self.check_mean_head()
        if depths is None:
            depths = torch.from_numpy(self.grid.depths(slices))
        volumes = at_depths(self.cae.volume_of(self.cae.encoder(film)), depths).clamp(-1.0, 1.0)
        if progress:
            progress(len(depths))
        return volumes

    def check_mean_head(self) -> None:
        """Raise ValueError: there is no mean head to ask."""
        raise ValueError("`mean` needs weights with a mean head, and a CAE generator has none; leave it out.")


class DepthToChannels(nn.Module):
    """(N, C, H, W, D) to (N, C * D, H, W), so that a 1 x 1 convolution mixes what lies at one pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Fold the last dim into the channels."""
        return x.permute(0, 1, 4, 2, 3).flatten(1, 2)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=2)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))


def _up(transposed: type[nn.Module], norm: type[nn.Module], inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(transposed(inputs, outputs, 4, stride=2, padding=1), norm(outputs), nn.ReLU())
