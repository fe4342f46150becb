"""Structure of a volume as MONAI metrics: surfaces, overlap, joint space, osteophytes, error by tissue, sharpness."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from bundle.metrics.agreement import mask_dice, surface_distances
from bundle.metrics.anatomy import Anatomy, reference_masks
from bundle.metrics.bones import Spacing
from bundle.metrics.joint_space import COMPARTMENTS
from bundle.metrics.sharpness import BANDS_PER_MM, band_power, edge_spread_width
from bundle.metrics.tissues import TISSUES, tissue_errors, tissue_masks
from bundle.metrics.volume_metric import VolumeMetric

SCORED = ("pred", "real")


@dataclass(frozen=True)
class Comparison:
    """A synthesised volume beside the real one, (H, W, S) each; what is not asked for is not computed.

    Args:
        pred, real: volumes in [-1, 1].
        spacing_mm: voxel edges, mm.
        labels: truth or external segmentation of the real volume, or None.
    """

    pred: np.ndarray
    real: np.ndarray
    spacing_mm: Spacing
    labels: np.ndarray | None

    @cached_property
    def reference(self) -> tuple[np.ndarray, np.ndarray]:
        """Bones and cartilage of the real volume."""
        return reference_masks(self.real, spacing_mm=self.spacing_mm, labels=self.labels)

    def anatomy(self, of: str) -> Anatomy:
        """What is found in one of the two."""
        return Anatomy.of(self.pred if of == "pred" else self.real, spacing_mm=self.spacing_mm)

    def joint_space(self, of: str, *, compartment: str) -> float:
        """Of one of the two, mm."""
        return self.anatomy(of).joint_space_mm[compartment]

    def joint_space_error(self, *, compartment: str) -> float:
        """|synthesised - real|, mm, both measured by the same code."""
        pred, real = (self.joint_space(of, compartment=compartment) for of in SCORED)
        return abs(pred - real)

    def osteophyte_error(self) -> float:
        """Sum over the four sites of |synthesised - real|, mm3."""
        pred, real = (self.anatomy(of).osteophytes_mm3 for of in SCORED)
        return float(sum(abs(pred[site] - real[site]) for site in real))

    def bone_distances(self) -> tuple[float, float]:
        """Mean and 95th percentile over femur and tibia, mm: the mean of the two bones."""
        bones, found = self.reference[0], self.anatomy("pred").bones
        each = [surface_distances(found == bone, bones == bone, spacing_mm=self.spacing_mm) for bone in (1, 2)]
        return (each[0][0] + each[1][0]) / 2, (each[0][1] + each[1][1]) / 2

    def tissue_error(self, *, tissue: str, kind: str) -> float:
        """Error inside one tissue of the real volume."""
        masks = tissue_masks(self.real, spacing_mm=self.spacing_mm, labels=self.labels)
        return tissue_errors(self.pred, self.real, {tissue: masks[tissue]})[tissue][kind]

    def power_ratio(self, *, band: str) -> float:
        """Power of the synthesised volume in a band over the real volume's; NaN where that has none."""
        pred, real = (band_power(volume, spacing_mm=self.spacing_mm)[band] for volume in (self.pred, self.real))
        return pred / real if real > 0 else math.nan


COMPARED: dict[str, Callable[[Comparison], float]] = {
    "bone_distance": lambda pair: pair.bone_distances()[0],
    "bone_distance_p95": lambda pair: pair.bone_distances()[1],
    "bone_dice": lambda pair: mask_dice(pair.anatomy("pred").bones > 0, pair.reference[0] > 0),
    "cartilage_dice": lambda pair: mask_dice(pair.anatomy("pred").cartilage, pair.reference[1]),
    "osteophyte_error": Comparison.osteophyte_error,
    **{f"joint_space_error_{name}": partial(Comparison.joint_space_error, compartment=name) for name in COMPARTMENTS},
    **{f"absolute_error_{name}": partial(Comparison.tissue_error, tissue=name, kind="absolute") for name in TISSUES},
    **{f"squared_error_{name}": partial(Comparison.tissue_error, tissue=name, kind="squared") for name in TISSUES},
    **{f"power_{name}": partial(Comparison.power_ratio, band=name) for name in BANDS_PER_MM},
}
"""Measures of a synthesised volume against the real one."""
SINGLE: dict[str, Callable[[Comparison, str], float]] = {
    **{f"joint_space_{name}": partial(Comparison.joint_space, compartment=name) for name in COMPARTMENTS},
    "osteophyte_volume": lambda pair, of: float(sum(pair.anatomy(of).osteophytes_mm3.values())),
    "edge_spread": lambda pair, of: edge_spread_width(
        pair.pred if of == "pred" else pair.real, pair.reference[0], spacing_mm=pair.spacing_mm
    ),
}
"""Measures of one volume; `of` says of which."""
MEASURES = (*COMPARED, *SINGLE)


class StructureMetric(VolumeMetric):
    """One structure measure of every volume (B, 1, H, W, S); `left_out` is 1 where a volume has no value.

    Volumes are on the grid of the weights, canonical right knees, in [-1, 1].

    Args:
        measure: one of `MEASURES`.
        of: for measures of one volume, `pred` the synthesised or `real` the real.
        reduction: over volumes, `mean` or `median`.
        get_not_nans: whether `aggregate` returns (score, number of volumes behind it).
    """

    def __init__(self, measure: str, *, of: str = "pred", reduction: str = "mean", get_not_nans: bool = False) -> None:
        super().__init__(counts="undefined", reduction=reduction, get_not_nans=get_not_nans)
        if measure not in MEASURES:
            raise ValueError(f"`measure` must be one of {', '.join(MEASURES)}, got {measure!r}.")
        if of not in SCORED or (of == "real" and measure in COMPARED):
            raise ValueError(f"`of` must be pred, or real with one of {', '.join(SINGLE)}; got {of!r} with {measure}.")
        self.measure, self.of = measure, of

    def _score(
        self,
        y_pred: Tensor,
        y: Tensor | None,
        *,
        spacing_mm: Spacing | None = None,
        labels: np.ndarray | Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if y is None or spacing_mm is None:
            raise ValueError(f"{self} needs `y`, the real volumes, and `spacing_mm`, their voxel edges.")
        if labels is not None:
            labels = np.asarray(torch.as_tensor(labels).cpu())
            if labels.shape != (len(y), *y.shape[2:]):
                raise ValueError(f"`labels` must have shape (B, H, W, S) {(len(y), *y.shape[2:])}, got {labels.shape}.")
        scores = []
        for index, (pred, real) in enumerate(zip(y_pred[:, 0].cpu().numpy(), y[:, 0].cpu().numpy(), strict=True)):
            pair = Comparison(pred, real, spacing_mm, None if labels is None else labels[index])
            function = COMPARED.get(self.measure)
            scores.append(SINGLE[self.measure](pair, self.of) if function is None else function(pair))
        found = torch.tensor(scores, dtype=torch.float64)[:, None]
        return found, found.isnan().long()
