"""RSSIM: how well the edges of a synthesised volume agree with the real one's, about the joint."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from skimage.feature import canny
from torch import Tensor
from torch.nn import functional as F

from bundle.metrics.volume_metric import VolumeMetric, check_data_range, checked_volume, lowest_intensity

WINDOW = 11
"""Taps of the Gaussian, and side of the square that `near_edge` looks at."""
WINDOW_SIGMA = 1.5

Band = tuple[int, int]


def region_ssim(
    y_pred: np.ndarray | Tensor,
    y: np.ndarray | Tensor,
    *,
    data_range: float,
    lo: float | None = None,
    sigma: float = 3.0,
    band: Sequence[int] | None = None,
    variant: str = "band",
) -> float:
    """SSIM between the Canny edge maps of two volumes, slice by slice, over the rows of the joint.

    Two empty edge maps agree perfectly, so a featureless volume scores well over wide dark rows. `near_edge`
    therefore averages only where the window sees an edge of either volume.

    Args:
        y_pred: synthesised volume, shape (H, W, S).
        y: real volume, same shape.
        data_range: width of the intensity range: 2 for [-1, 1].
        lo: lowest intensity; None is -1 for range 2 and 0 for range 1.
        sigma: of Canny's Gaussian, in pixels.
        band: rows [r0, r1); None is the middle third, floor(H/3) to ceil(2H/3).
        variant: `band`, `near_edge`, or `full`, which takes every row whatever `band` says.

    Returns:
        mean over slices, at most 1. Slices without an edge in either map count 1 in `band` and `full` and are left
        out of `near_edge`, which is NaN if none remains.

    Raises:
        ValueError: on unequal or wrong shapes, values that are not finite, an impossible range, band or variant.

    Source:
        Wang et al., "Feasibility Study of a Diffusion-Based Model for Cross-Modal Generation of Knee MRI from X-ray",
        which names RSSIM; its open points are decided in docs/metrics.md.
    """
    score = _Settings(data_range=data_range, lo=lo, sigma=sigma, variant=variant)
    pair = checked_volume(y_pred, name="y_pred"), checked_volume(y, name="y")
    if pair[0].shape != pair[1].shape:
        raise ValueError(
            f"`y_pred` and `y` must have one shape, got {pair[0].shape} and {pair[1].shape}; "
            "resample one onto the other's grid."
        )
    return score(*pair, band=band)[0]


class RegionSSIM(VolumeMetric):
    """`region_ssim` as a MONAI metric on (B, 1, H, W, S); `left_out` counts slices empty in both maps.

    Args:
        data_range: width of the intensity range: 2 for [-1, 1].
        lo: lowest intensity; None is -1 for range 2 and 0 for range 1.
        sigma: of Canny's Gaussian, in pixels.
        band: rows [r0, r1) of every volume; None is the middle third. A call may give another.
        variant: `band`, `near_edge` or `full`.
        reduction: over volumes, `mean` or `median`.
        get_not_nans: whether `aggregate` returns (score, number of volumes behind it).
    """

    def __init__(
        self,
        *,
        data_range: float,
        lo: float | None = None,
        sigma: float = 3.0,
        band: Sequence[int] | None = None,
        variant: str = "band",
        reduction: str = "mean",
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(counts="empty_slices", reduction=reduction, get_not_nans=get_not_nans)
        self.band = band
        self.settings = _Settings(data_range=data_range, lo=lo, sigma=sigma, variant=variant)

    def _score(self, y_pred: Tensor, y: Tensor | None, *, band: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        if y is None:
            raise ValueError("RegionSSIM needs `y`, the real volumes.")
        pairs = zip(y_pred[:, 0].cpu().numpy(), y[:, 0].cpu().numpy(), strict=True)
        scored = [self.settings(*pair, band=self.band if band is None else band) for pair in pairs]
        scores = torch.tensor([[score] for score, _ in scored], dtype=torch.float64)
        return scores, torch.tensor([[empty] for _, empty in scored])


class _Settings:
    """RSSIM of a pair of arrays with everything but the pair and its band decided."""

    def __init__(self, *, data_range: float, lo: float | None, sigma: float, variant: str) -> None:
        self.data_range = check_data_range(data_range)
        self.lo = lowest_intensity(self.data_range, lo)
        if not sigma > 0:
            raise ValueError(f"`sigma` must be positive, got {sigma}.")
        self.sigma = float(sigma)
        if variant not in VARIANTS:
            raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}, got {variant!r}.")
        self.variant = variant

    def __call__(self, y_pred: np.ndarray, y: np.ndarray, *, band: Sequence[int] | None) -> tuple[float, int]:
        """Score, and the number of slices empty in both maps, of arrays (H, W, S)."""
        rows, columns = y.shape[:2]
        first, end = (0, rows) if self.variant == "full" else _checked_band(band, rows=rows)
        if min(end - first, columns) < WINDOW:
            raise ValueError(
                f"`y` must have at least {WINDOW} rows in the band and {WINDOW} columns for the SSIM window, "
                f"got {end - first} and {columns}."
            )
        edges, real_edges = (self._edges(volume)[..., first:end, :] for volume in (y_pred, y))
        empty = ~(edges | real_edges).flatten(1).any(dim=1)
        return VARIANTS[self.variant](edges, real_edges), int(empty.sum())

    def _edges(self, volume: np.ndarray) -> Tensor:
        """Canny edge maps (S, 1, H, W), bool, each of a whole slice in float64."""
        unit = np.clip((volume.astype(np.float64) - self.lo) / self.data_range, 0.0, 1.0)
        slices = np.ascontiguousarray(np.moveaxis(unit, -1, 0))
        return torch.from_numpy(np.stack([canny(image, sigma=self.sigma) for image in slices]))[:, None]


def _checked_band(band: Sequence[int] | None, *, rows: int) -> Band:
    if band is None:
        band = (rows // 3, -(-2 * rows // 3))
    if len(band) != 2 or any(int(row) != row for row in band):
        raise ValueError(f"`band` must be two whole row numbers [r0, r1), got {tuple(band)}.")
    first, end = int(band[0]), int(band[1])
    if not 0 <= first < end <= rows or end - first < WINDOW:
        raise ValueError(
            f"`band` must lie within the {rows} rows and hold at least {WINDOW}, the SSIM window; got [{first}, {end})."
        )
    return first, end


def _ssim_map(edges: Tensor, real_edges: Tensor) -> Tensor:
    """SSIM of two stacks of 0/1 maps (S, 1, H, W) where the whole window fits: (S, 1, H - 10, W - 10), float64.

    MONAI's `compute_ssim_and_cs` computes in float32. A map of 0 and 1 is its own square, which leaves three
    filterings of five.

    Source:
        Wang et al., IEEE Trans. Image Process. 13(4), 2004, doi:10.1109/TIP.2003.819861, Eq. 13; population
        covariance, range 1.
    """
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    taps = torch.exp(-0.5 * (offsets / WINDOW_SIGMA) ** 2)
    taps = taps / taps.sum()

    def window_mean(images: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(images.double(), taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))

    mean, real_mean, mean_product = (window_mean(i) for i in (edges, real_edges, edges & real_edges))
    variances = mean * (1 - mean) + real_mean * (1 - real_mean)
    covariance = mean_product - mean * real_mean
    luminance = (2 * mean * real_mean + 0.01**2) / (mean**2 + real_mean**2 + 0.01**2)
    return luminance * (2 * covariance + 0.03**2) / (variances + 0.03**2)


def _mean_ssim(edges: Tensor, real_edges: Tensor) -> float:
    return _ssim_map(edges, real_edges).mean().item()


def _near_edge_ssim(edges: Tensor, real_edges: Tensor) -> float:
    seen = F.max_pool2d((edges | real_edges).float(), WINDOW, stride=1).flatten(1).bool()
    ssim = _ssim_map(edges, real_edges).flatten(1)
    per_slice = (ssim * seen).sum(dim=1) / seen.sum(dim=1)
    return per_slice.nanmean().item()


VARIANTS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "band": _mean_ssim,
    "near_edge": _near_edge_ssim,
    "full": _mean_ssim,
}
