"""A real MRI volume from whatever holds it: DICOM in a folder, an archive or a file, or NIfTI."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from bundle.data.oai_dicom import MAX_VOXELS, Series, read_mr_series
from bundle.geometry import AXES
from bundle.transforms.film_files import PHANTOM_MARK
from bundle.transforms.nifti_file import check_space, is_nifti, open_nifti

UNREAD = (".mha", ".mhd", ".nrrd", ".mgz", ".mnc", ".npy", ".mat", ".h5", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Endings of volumes and pictures that people have; their headers do not say what DICOM's and NIfTI's do."""


def read_volume(path: Path) -> Series:
    """Read a volume in ILA axes; NIfTI of any axis order is turned, not resampled.

    Raises:
        ValueError: if it cannot be read, or its header does not say where it lies in the patient.
    """
    if not is_nifti(path):
        if path.suffix.lower() in UNREAD:
            raise ValueError(f"series {path}: is of a kind that is not read; convert it to NIfTI or DICOM.")
        return read_mr_series(path)
    try:
        return _read_nifti(path)
    except Exception as error:  # damaged files raise anything
        if isinstance(error, ValueError) and str(error).startswith("series "):
            raise
        raise ValueError(f"series {path}: cannot be read ({' '.join(str(error).split())[:200]}).") from None


def _read_nifti(path: Path) -> Series:
    what = f"series {path}"
    image = open_nifti(path, what=what)
    shape = tuple(int(edge) for edge in image.shape)
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) != 3 or min(shape) < 2:
        raise ValueError(f"{what}: must be one volume of shape (X, Y, Z), got {image.shape}.")
    if np.prod(shape, dtype=float) > MAX_VOXELS:
        raise ValueError(f"{what}: its header claims {shape} voxels; expected at most {MAX_VOXELS}.")
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"{what}: must hold real numbers, got {image.get_data_dtype()}.")
    check_space(image.header, what)
    edges = np.linalg.norm(image.affine[:3, :3], axis=0)
    if not np.isfinite(image.affine).all() or not ((edges > 0.01) & (edges < 20)).all():
        raise ValueError(f"{what}: its voxel edges are {edges.tolist()} mm; expected 0.01 to 20.")
    cosines = (image.affine[:3, :3] / edges).T @ (image.affine[:3, :3] / edges)
    if np.abs(cosines - np.eye(3)).max() > 0.02:
        raise ValueError(f"{what}: its axes are not perpendicular; a sheared volume is not read.")
    values = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        raise ValueError(f"{what}: has values that are not finite, or every voxel has the same value.")
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(AXES)))
    volume = np.ascontiguousarray(nib.orientations.apply_orientation(values, turn))
    affine = image.affine @ nib.orientations.inv_ornt_aff(turn, shape)
    description = bytes(image.header["descrip"]).decode(errors="replace")
    return Series(volume, affine, None, PHANTOM_MARK in description, "", "NIfTI")
