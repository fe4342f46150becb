"""Volumes and films as NIfTI: values in [0, 1], 16 bits, an affine that is true, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from bundle.writers.whole import whole

LEVELS = 65535


def write_nifti(values: np.ndarray, affine: np.ndarray, path: str | Path, *, description: str = "") -> Path:
    """Write an array in [0, 1] as 16-bit NIfTI whose scaled values are in [0, 1] again.

    Args:
        values: (H, W, S); clipped to [0, 1].
        affine: (4, 4), voxel to RAS mm.
        path: `.nii.gz` file to write.
        description: header text of at most 79 characters, such as that the image is synthetic.

    Returns:
        `path`.

    Raises:
        ValueError: if a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: `values` must be finite; the image would be damaged.")
    image = nib.Nifti1Image(np.round(np.clip(values, 0, 1) * LEVELS).astype(np.uint16), affine)
    # both codes, for readers that know one alone; `aligned`, since no scanner gave the position
    image.set_sform(affine, code="aligned")
    image.set_qform(affine, code="aligned")
    image.header.set_slope_inter(1 / LEVELS, 0)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()[:79]
    path = Path(path)
    with whole(path) as temporary:
        nib.save(image, temporary)
    return path
