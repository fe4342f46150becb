"""Make a page to look at a volume: three planes, the film beside them, the spread over them.

The page is one HTML file that needs neither network nor server.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from bundle.data import CropKnee
from bundle.geometry import AXES
from bundle.reports.volume_page import FilmPicture, volume_page
from bundle.transforms import LoadFilm
from bundle.writers import stem_of, whole

ROOT = Path(__file__).resolve().parents[1]
FACTS = ("side", "samples", "seed", "bundle_version", "weights_sha256", "trained_on", "knee_confidence")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "volume", type=Path, metavar="VOLUME", help="volume, NIfTI; its .json is read if it lies beside"
    )
    parser.add_argument("--film", type=Path, metavar="FILE", help="film to show beside it (DICOM, NIfTI, PNG)")
    parser.add_argument("--spread", type=Path, metavar="FILE", help="spread over samples, laid over it in colour")
    parser.add_argument(
        "--spacing", type=float, metavar="MM", help="pixel edge of a film whose file does not say it, mm"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="page to write, .html")
    return parser.parse_args()


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Array (H, W, S) in ILA axes, voxel edges in mm, and what the header says it is."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file.")
    try:
        image = nib.load(path)
        if len(image.shape) != 3:
            raise ValueError(f"must be a volume (H, W, S), got {image.shape}")
        wanted = nib.orientations.axcodes2ornt(tuple(AXES))
        turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))
        values = np.asarray(turned.dataobj, dtype=np.float32)
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as NIfTI ({error}).") from None
    description = bytes(image.header["descrip"]).decode(errors="replace") if "descrip" in image.header else ""
    return values, nib.affines.voxel_sizes(turned.affine), description


def unit_range(values: np.ndarray) -> np.ndarray:
    """In [0, 1]: as it is if it lies there, else by robust percentiles."""
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        low, high = np.percentile(values, [0.5, 99.5])
        values = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return values


def read_film(path: Path, *, side: str | None, spacing: float | None) -> FilmPicture:
    """The knee of a film, cut as the network saw it where its side is known and it is found; else the whole film."""
    film, words = LoadFilm(spacing_mm=spacing)(path), "Film, whole"
    if side in ("R", "L"):
        try:
            film = CropKnee(320, ROOT / "models" / "knee_finder.pt")(film, side)
            words = f"Film, side {side}, cut to the volume's field of view"
        except ValueError as error:
            print(f"the whole film is shown: {error}", file=sys.stderr)
    pixels = film.as_tensor()[0, :, :, 0].numpy()
    low, high = np.percentile(pixels, [0.5, 99.5])
    height, width = (count * float(torch.linalg.norm(film.affine[:3, axis])) for axis, count in enumerate(pixels.shape))
    return FilmPicture(np.clip((pixels - low) / max(high - low, 1e-12), 0, 1), width, height, words)


def main() -> int:
    arguments = parse()
    try:
        values, spacing, description = read_volume(arguments.volume)
        spread = None
        if arguments.spread:
            spread, *_ = read_volume(arguments.spread)
            if spread.shape != values.shape:
                raise ValueError(
                    f"{arguments.spread}: must have the volume's shape {values.shape}, got {spread.shape}."
                )
        sidecar = arguments.volume.with_name(stem_of(arguments.volume.name) + ".json")
        record = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
        side = record.get("side")
        film = read_film(arguments.film, side=side, spacing=arguments.spacing) if arguments.film else None
        page = volume_page(
            unit_range(values),
            spacing_mm=[float(edge) for edge in spacing],
            title=stem_of(arguments.volume.name),
            synthetic=bool(record.get("synthetic")) or "SYNTHETIC" in description.upper(),
            film=film,
            spread=spread,
            facts={name: record[name] for name in FACTS if record.get(name) is not None},
        )
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with whole(arguments.out) as temporary:
            temporary.write_text(page)
    except (ValueError, OSError, RuntimeError) as error:
        print("error: " + re.sub(r"\s+", " ", str(error)), file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
