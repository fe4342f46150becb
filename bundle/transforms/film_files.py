"""Read a film from DICOM, NIfTI or a picture file: pixels, spacing, and what the header says of side and origin."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import optional_import

from bundle.geometry import AXES, ila_affine
from bundle.transforms.archive import is_archive, members
from bundle.transforms.dicom_file import is_dicom
from bundle.transforms.dicom_pixels import MAX_PIXELS, check_scans, check_size
from bundle.transforms.film_dicom import DicomFilm, read_dicom_film
from bundle.transforms.nifti_file import check_space, is_nifti, open_nifti

Image, _ = optional_import("PIL.Image")
ImageOps, _ = optional_import("PIL.ImageOps")

PHANTOM_MARK = "synthetic-phantom"
PREPARED_MARK = "knee ROI"
"""In the header of a film that preparation cut and normalised; it is taken as it is."""
MAX_BYTES = 512 * 2**20
"""Of a file, in whichever form; more than the largest film takes in any."""
PICTURE_HEADS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")
"""How PNG, JPEG and TIFF files begin, whatever they are called."""
FORMATS = ("PNG", "JPEG", "TIFF")
"""Pillow knows others, some of which it hands to programs of their own."""
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
TIFF_PHOTOMETRIC = 262
GREY_DEEP = ("I", "I;16", "I;16B", "I;16L", "F")
GREY_MODES = (*GREY_DEEP, "L", "LA")


@dataclass(frozen=True)
class FilmFile:
    """A film as its file holds it.

    Args:
        pixels: (H, W) float32, rows downwards, bright where bone is dense.
        affine: (4, 4) of the (H, W, 1) array, voxel to RAS mm; a film has no patient position, so its middle is at
            the origin unless a NIfTI says otherwise. Millimetres are the detector's.
        side: `R` or `L` where the header says it.
        bilateral: whether the header says that both knees are on it; None where it says nothing.
        spacing_source: tag, `affine` or `argument`: where the spacing came from.
        synthetic_phantom: whether the file is marked as a phantom's.
        sop_instance_uid: of a DICOM film.
        prepared: whether it is a prepared region of interest: cut, and normalised to [0, 1].
    """

    pixels: np.ndarray
    affine: np.ndarray
    side: str | None = None
    bilateral: bool | None = None
    spacing_source: str = "affine"
    synthetic_phantom: bool = False
    sop_instance_uid: str | None = None
    prepared: bool = False


def read_film(path: str | Path, *, spacing_mm: float | None = None, max_pixels: int = MAX_PIXELS) -> FilmFile:
    """Read a film.

    Args:
        path: DICOM (with any ending or none), NIfTI (of a pair either file), PNG, JPEG or TIFF file, or an archive
            (`.tar.gz`) of one DICOM film.
        spacing_mm: pixel edge at the detector, mm; used where the file does not say it.
        max_pixels: files whose header claims more are refused before memory is taken.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a film of the knee that can be read, or has no spacing.
    """
    path = Path(path)
    what = f"film {path}"
    check_film_file(path)
    if spacing_mm is not None and not 0 < spacing_mm < 100:
        raise ValueError(f"`spacing_mm` must be a pixel edge in mm, positive and below 100, got {spacing_mm}.")
    name = path.name.lower()
    try:
        with path.open("rb") as file:
            head = file.read(132)
        if is_nifti(path):
            film = _read_nifti(path, what, max_pixels)
        elif is_archive(path):
            film = _from_dicom(
                read_dicom_film(_only_member(path, what), what=what, spacing_mm=spacing_mm, max_pixels=max_pixels)
            )
        elif not is_dicom(head) and (name.endswith(PICTURES) or head.startswith(PICTURE_HEADS)):
            film = _read_picture(path, what, spacing_mm, max_pixels)
        elif not is_dicom(head):
            raise ValueError(f"{what}: is no DICOM file, nor NIfTI, PNG, JPEG or TIFF.")
        else:
            film = _from_dicom(read_dicom_film(path, what=what, spacing_mm=spacing_mm, max_pixels=max_pixels))
    except Exception as error:  # decoders raise anything from KeyError to struct.error on damaged files
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if isinstance(error, ValueError) and reason.startswith("film "):
            raise
        raise ValueError(f"{what}: cannot be read ({reason}).") from None
    if not np.isfinite(film.pixels).all():
        raise ValueError(f"{what}: has values that are not finite.")
    if np.ptp(film.pixels) == 0:
        raise ValueError(f"{what}: every pixel has the same value; there is no image in it.")
    return film


def check_film_file(path: Path) -> None:
    """Refuse, before a byte is read, what is no file, or is empty or too large.

    Raises:
        FileNotFoundError: if it is a folder, a device, a pipe or nothing.
        ValueError: if its size is no film's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"film {path}: {'is a folder; name the file' if path.is_dir() else 'no such file'}.")
    size = path.stat().st_size
    if not size:
        raise ValueError(f"film {path}: the file is empty.")
    if size > MAX_BYTES:
        raise ValueError(f"film {path}: has {size // 2**20} MiB; expected at most {MAX_BYTES // 2**20}.")


def _only_member(path: Path, what: str) -> bytes:
    """The film in an archive; NDA packs a film as a series of one file."""
    found = [content for _, content in members(path, what=what)]
    if len(found) != 1:
        raise ValueError(f"{what}: the archive has {len(found)} files; expected one film.")
    return found[0]


def _from_dicom(film: DicomFilm) -> FilmFile:
    return FilmFile(
        film.pixels,
        _film_affine(film.pixels.shape, film.spacing_mm),
        side=film.side,
        bilateral=film.bilateral,
        spacing_source=film.spacing_source,
        synthetic_phantom=PHANTOM_MARK in film.model_name,
        sop_instance_uid=film.sop_instance_uid,
    )


def _read_picture(path: Path, what: str, spacing_mm: float | None, max_pixels: int) -> FilmFile:
    if spacing_mm is None:
        raise ValueError(f"{what}: a picture file holds no pixel spacing; give it with --spacing MM.")
    with warnings.catch_warnings(), _opened(path, what) as picture:
        warnings.simplefilter("ignore")
        check_size(picture.height, picture.width, what=what, max_pixels=max_pixels)
        if getattr(picture, "n_frames", 1) != 1:
            raise ValueError(f"{what}: has {picture.n_frames} pages; expected one.")
        if picture.format == "JPEG":
            check_scans(path.read_bytes(), what=what)
        if picture.mode not in (*GREY_MODES, "RGB", "RGBA"):
            raise ValueError(f"{what}: must be a grey picture of 8 bits or more, got mode {picture.mode}.")
        if picture.mode not in GREY_DEEP and any(";16" in _stored_mode(tile) for tile in picture.tile):
            raise ValueError(f"{what}: has 16 bits a colour, of which 8 would be read; save it as grey of 16 bits.")
        if getattr(picture, "tag_v2", {}).get(TIFF_PHOTOMETRIC) == 0 and picture.mode != "L":
            # Pillow turns the grey scale of 8 bits round and leaves deeper ones as they are
            raise ValueError(f"{what}: is a TIFF in which 0 is white; save it with 0 as black.")
        pixels = np.asarray(ImageOps.exif_transpose(picture))
    if pixels.ndim == 3:
        colours = pixels[..., :1] if pixels.shape[2] == 2 else pixels[..., :3]
        if (colours != colours[..., :1]).any():
            raise ValueError(f"{what}: must be a grey picture, got one with colours.")
        pixels = colours[..., 0]
    pixels = pixels.astype(np.float32)
    return FilmFile(pixels, _film_affine(pixels.shape, (spacing_mm, spacing_mm)), spacing_source="argument")


def _opened(path: Path, what: str) -> Any:
    try:
        return Image.open(path, formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise ValueError(
            f"{what}: is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} that can be read; save it as grey PNG of "
            "8 or 16 bits."
        ) from None


def _stored_mode(tile: Any) -> str:
    """How Pillow calls what lies in the file, such as `RGB;16B`."""
    options = tile[3]
    return str(options[0] if isinstance(options, tuple) and options else options)


def _read_nifti(path: Path, what: str, max_pixels: int) -> FilmFile:
    image = open_nifti(path, what=what)
    plane = tuple(edge for edge in image.shape if edge != 1)
    if len(plane) != 2:
        raise ValueError(f"{what}: must be one slice of shape (H, W, 1), got {tuple(image.shape)}.")
    check_size(*plane, what=what, max_pixels=max_pixels)
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"{what}: must hold real numbers, got {image.get_data_dtype()}.")
    check_space(image.header, what)
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise ValueError(f"{what}: its affine is not one of space: {image.affine.tolist()}.")
    shape = (*image.shape, 1)[:3]
    if shape.count(1) != 1:
        raise ValueError(f"{what}: must have shape (H, W) or (H, W, 1), got {tuple(image.shape)}.")
    flat = nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32).reshape(shape), image.affine)
    wanted = nib.orientations.axcodes2ornt(tuple(AXES))
    turned = flat.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(flat.affine), wanted))
    if turned.shape[2] != 1:
        raise ValueError(
            f"{what}: its slice must be coronal, but by its affine it is {turned.shape} in inferior, left, anterior "
            "order; correct the affine."
        )
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > 0.02:
        raise ValueError(f"{what}: its axes are not perpendicular; a sheared film is not read.")
    description = bytes(image.header["descrip"]).decode(errors="replace")
    return FilmFile(
        np.asarray(turned.dataobj, dtype=np.float32)[..., 0],
        turned.affine,
        synthetic_phantom=PHANTOM_MARK in description,
        prepared=PREPARED_MARK in description,
    )


def _film_affine(shape: tuple[int, ...], spacing: tuple[float, float]) -> np.ndarray:
    return ila_affine((shape[0], shape[1], 1), (*spacing, 1.0), np.zeros(3))
