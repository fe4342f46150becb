"""Ignite handler of the structure metrics, with the voxel sizes and labels that they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from torch import Tensor

from bundle.geometry import Grid
from bundle.handlers.image_quality import ImageQualityHandler
from bundle.keys import LABELS
from bundle.metrics.structure import StructureMetric

SEGMENTED = "femur and tibia by stated thresholds (docs/metrics.md), the same for real and synthesised volumes"
WORDS: dict[str, str] = {
    "bone_distance": "mean symmetric distance of bone surfaces, mean of femur and tibia, mm",
    "bone_distance_p95": "95th percentile of the distance of bone surfaces, larger direction, mean of both bones, mm",
    "bone_dice": "Dice of femur and tibia together",
    "cartilage_dice": "Dice of the cartilage of femur and tibia",
    "osteophyte_error": "sum over four sites of the absolute error of marginal bone, mm3",
    "osteophyte_volume": "bone beyond the margin at four sites, mm3",
    "edge_spread": "25-75 % width of the mean profile from bone to cartilage, borders of the real volume, mm",
}
BY_PREFIX: dict[str, str] = {
    "joint_space_error_": "absolute error of joint space width, mm",
    "joint_space_": "joint space width, mm",
    "absolute_error_": "mean absolute error inside the tissue of the real volume",
    "squared_error_": "mean squared error inside the tissue of the real volume",
    "power_": "power of the slices in a frequency band over the real volume's, ratio",
}


class StructureHandler(ImageQualityHandler):
    """One structure measure of every volume (`bundle.metrics.StructureMetric`).

    Voxel sizes come from the real volume's affine, else from the default grid. Items of the batch that hold labels are
    measured against those, the others against the same segmentation of the real volume; the convention counts both.

    Args:
        measure: one of `bundle.metrics.structure.MEASURES`.
        of: for measures of one volume, `pred` or `real`.
        labels: entry of the batch's items with labels (1, H, W, S), as `bundle.transforms.LoadLabelsd` adds them.
        reduction: over volumes, `mean` or `median`.
        output_transform: as `ImageQualityHandler`'s.
        save_details: as `ImageQualityHandler`'s.
    """

    def __init__(
        self,
        *,
        measure: str,
        of: str = "pred",
        labels: str = LABELS,
        reduction: str = "mean",
        output_transform: Callable | None = None,
        save_details: bool = True,
    ) -> None:
        super().__init__(
            StructureMetric(measure, of=of, reduction=reduction),
            convention={"measure": measure_words(measure), "masks": SEGMENTED, "data_range": 2.0},
            output_transform=output_transform,
            save_details=save_details,
        )
        self.labels = labels
        self._with_labels = self._seen = 0

    def reset(self) -> None:
        """Forget every volume."""
        super().reset()
        self._with_labels = self._seen = 0

    @torch.no_grad()
    def iteration_completed(self, engine: Engine) -> None:
        """Score the iteration's volumes one by one."""
        y_pred, y = self._output_transform(engine.state.output)
        self._is_reduced = False
        for index, (pred, real) in enumerate(zip(y_pred, y, strict=True)):
            labels = labels_of(engine.state.batch, index, key=self.labels)
            self._seen += 1
            self._with_labels += labels is not None
            self.metric_fn(pred[None], real[None], spacing_mm=voxel_edges(real), labels=labels)
        self.convention["reference"] = (
            f"given labels for {self._with_labels}, the same segmentation of the real volume for "
            f"{self._seen - self._with_labels} of {self._seen} volumes"
        )


def measure_words(measure: str) -> str:
    """What a measure is, for reports."""
    if measure in WORDS:
        return WORDS[measure]
    return next((f"{words}: {measure.removeprefix(p)}" for p, words in BY_PREFIX.items() if measure.startswith(p)), "")


def labels_of(batch: Any, index: int, *, key: str) -> Tensor | None:
    """Labels (1, H, W, S) of one decollated item of the batch, or None where it has none."""
    item = batch[index] if isinstance(batch, list) and index < len(batch) else None
    found = item.get(key) if isinstance(item, Mapping) else None
    return None if found is None else torch.as_tensor(found).as_subclass(Tensor).cpu()


def voxel_edges(volume: Tensor) -> tuple[float, float, float]:
    """Voxel edges of (1, H, W, S) from its affine, or those of the default grid where there is none, mm."""
    if isinstance(volume, MetaTensor) and not bool((volume.affine.cpu() == torch.eye(4)).all()):
        rows, columns, slices = (float(edge) for edge in volume.pixdim[:3])
        return rows, columns, slices
    grid = Grid.of(image_size=volume.shape[1], slices=volume.shape[3])
    return grid.spacing_mm, grid.spacing_mm, grid.slice_spacing_mm
