"""Baseline without weights: the training volume whose film is most like the given one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bundle.keys import FILM
from bundle.networks.baselines import Weightless, no_items


class NearestFilm(Weightless):
    """Gives a film somebody else's volume: that of the nearest training film, the first of several equally near.

    Distance: both films, in [-1, 1], are averaged over the pixels of a `film_size` x `film_size` raster, shifted to
    mean 0 and scaled to variance 1; then the root mean square of their difference. It is 0 for films that differ in
    gain and offset alone, and sqrt(2 - 2 r) for a correlation r.

    Memory: every training volume as float16, N x H x W x S x 2 bytes, whose rounding is at most 2.5e-4 in [-1, 1]:
    1.6 MB a knee at 128 x 128 x 50 (4.9 GB for the paper's 2,983), 6.6 MB at 256 (20 GB); films are 4 KB each.

    Args:
        shape: (H, W, S) of the volumes.
        film_size: edge of the raster on which films are compared; at most H and W.
    """

    films: Tensor
    fitted: Tensor

    def __init__(self, shape: Sequence[int], *, film_size: int = 32) -> None:
        super().__init__(shape)
        if not 2 <= film_size <= min(shape[:2]):
            raise ValueError(f"`film_size` must lie in 2 to {min(shape[:2])}, the film's edge, got {film_size}.")
        self.film_size = film_size
        self.register_buffer("films", torch.zeros(0, film_size**2))
        self.register_buffer("fitted", torch.zeros(0, 1, *shape, dtype=torch.float16))
        self._register_load_state_dict_pre_hook(self._make_room)

    def fit(self, items: Iterable[Mapping[str, Any]]) -> NearestFilm:
        """Keep the films and volumes of `items`, in one pass, in place of any earlier ones.

        Args:
            items: dictionaries with `image`, shape (1, H, W), and `mri`, shape (1, H, W, S), both in [-1, 1].

        Returns:
            this module.

        Raises:
            ValueError: if there is no item, a volume has another shape or a value that is not finite, or a film has no
                contrast.
        """
        films, volumes = [], []
        for number, item in enumerate(items, start=1):
            volumes.append(self.volume_of(item, number).half())
            try:
                films.append(self.describe(torch.as_tensor(item[FILM]).detach().cpu()[None])[0])
            except ValueError as error:
                raise ValueError(f"item {number}: {error}") from None
        if not films:
            raise no_items()
        device = self.count.device
        self.films, self.fitted = torch.stack(films).to(device), torch.stack(volumes).to(device)
        self.count.fill_(len(films))
        return self

    def describe(self, film: Tensor) -> Tensor:
        """Films (B, 1, H, W) as they are compared: (B, film_size ** 2), mean 0 and variance 1."""
        if film.ndim != 4 or tuple(film.shape[1:]) != (1, *self.shape[:2]):
            raise ValueError(f"`{FILM}` must have shape (B, 1, {self.shape[0]}, {self.shape[1]}), got {film.shape}.")
        small = F.adaptive_avg_pool2d(film.float(), self.film_size).flatten(1)
        small = small - small.mean(dim=1, keepdim=True)
        spread = small.square().mean(dim=1, keepdim=True).sqrt()
        if not bool((spread > 1e-6).all()):  # NaN is caught, too
            raise ValueError(f"`{FILM}` has no contrast, or values that are not finite; no film is near it.")
        return small / spread

    def nearest(self, film: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of the nearest training items, (B,) int64, and their distances, (B,)."""
        described = self.describe(film).to(self.films)
        # sums of squares directly: from products, the distance of equal films would not be 0
        squares = torch.stack([(self.films - one).square().mean(dim=1) for one in described])
        distance, number = squares.min(dim=1)
        return number, distance.sqrt()

    def volumes(self, film: Tensor, readings: Tensor | None) -> Tensor:
        """The nearest items' volumes, float32."""
        return self.fitted[self.nearest(film)[0]].float()

    def _make_room(self, state: dict, prefix: str, *_: object) -> None:
        """Let the buffers have as many items as those that are loaded."""
        for name in ("films", "fitted"):
            theirs, ours = state.get(prefix + name), getattr(self, name)
            if theirs is not None and theirs.shape[1:] == ours.shape[1:]:
                setattr(self, name, ours.new_zeros(theirs.shape))
