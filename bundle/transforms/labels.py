"""Label volumes (the phantom's truth, or an external segmentation) on the voxels of an item's MRI."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from nibabel.processing import resample_from_to

from bundle.geometry import mirror_columns
from bundle.keys import LABELS, MIRRORED, MRI, PARTICIPANT, SIDE, VISIT

logger = logging.getLogger(__name__)
PATTERN = "{participant}_{side}_labels.nii.gz"
"""Name of the phantom's truth of a knee."""


class LoadLabelsd(Transform):
    """Add the labels of a knee under `labels`, nearest neighbour, mirrored as its MRI is.

    Runs after the MRI is on the model's grid and canonical (`ToGridd`, `CanonicalSided`): the labels are resampled by
    the two affines alone and mirrored where the MRI's meta says so. A knee without a file is passed on without labels
    and counted in `absent`; the first is named in the log.

    Args:
        directory: folder of the label volumes, such as the release's `truth/`; None adds none.
        key: entry to add.
        reference: entry of the MRI.
        pattern: file name, with `{participant}`, `{side}` and `{visit}`.

    Raises:
        FileNotFoundError: when built, if the folder is absent.
        ValueError: when called, if a file is no label volume.
    """

    def __init__(
        self, directory: str | Path | None, *, key: str = LABELS, reference: str = MRI, pattern: str = PATTERN
    ) -> None:
        self.directory = None if directory is None else Path(directory)
        if self.directory is not None and not self.directory.is_dir():
            raise FileNotFoundError(
                f"labels {directory}: no such folder; scripts/make_phantom.py --truth writes `truth/`, or give null."
            )
        self.key, self.reference, self.pattern = key, reference, pattern
        self.found = self.absent = 0

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Item with an MRI (1, H, W, S), to the same with labels (1, H, W, S) uint8 where there is a file."""
        result = dict(data)
        if self.directory is None:
            return result
        names = {name: str(data.get(name, "")) for name in (PARTICIPANT, SIDE, VISIT)}
        path = self.directory / self.pattern.format(**names)
        if not path.is_file():
            if not self.absent:
                logger.warning("labels: %s is not there; knees without labels are segmented by thresholds.", path.name)
            self.absent += 1
            return result
        self.found += 1
        result[self.key] = _on_grid_of(data[self.reference], path)
        return result


def _on_grid_of(mri: MetaTensor, path: Path) -> MetaTensor:
    image = nib.load(path)
    values = np.asarray(image.dataobj)
    if values.ndim != 3 or values.min() < 0 or values.max() > 255 or (values != np.round(values)).any():
        raise ValueError(f"labels {path.name}: must hold whole numbers from 0 to 255 in 3 axes, got {values.shape}.")
    source = nib.Nifti1Image(values.astype(np.uint8), image.affine)
    affine = mri.affine.cpu().double().numpy()
    moved = resample_from_to(source, (tuple(mri.shape[1:]), affine), order=0)
    labels = np.asarray(moved.dataobj).astype(np.uint8)
    mirrored = bool(mri.meta.get(MIRRORED, False))
    if mirrored:  # the affine is kept, as for the MRI
        labels = mirror_columns(labels, columns_dim=-2)
    return MetaTensor(torch.from_numpy(labels.copy())[None], affine=mri.affine, meta={MIRRORED: mirrored})
