"""Make a page to look at a volume: three planes, the film beside them, the spread over them.

With --explore, a page of a phantom knee whose readings are turned: its film, its true volume, and what the weights make
of both. A page is one HTML file that needs neither network nor server.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from tqdm import tqdm

import bundle
from bundle.command_line import fail
from bundle.data import CropKnee
from bundle.geometry import AXES, SIDES
from bundle.keys import CONFIDENCE, FILM, MRI
from bundle.phantom.anatomy import sample_person
from bundle.phantom.on_the_fly import OnTheFly
from bundle.readings import VARIABLES
from bundle.reports.explorer import captioned_rows, explorer_page
from bundle.reports.volume_page import FilmPicture, volume_page
from bundle.transforms import FlattenFilmd, LoadFilm
from bundle.writers import stem_of, whole

ROOT = Path(__file__).resolve().parents[1]
FACTS = ("side", "samples", "seed", "bundle_version", "weights_sha256", "trained_on", CONFIDENCE)

DIALS = (
    (("XRJSM",), (0, 1, 2, 3), "Narrowing, medial (XRJSM)"),
    (("XROSTM", "XROSFM"), (0, 1, 3), "Osteophytes, medial (XROSTM, XROSFM)"),
    (("XRCYTM",), (0, 1), "Cyst, medial tibia (XRCYTM)"),
)
"""What the explorer turns: readings, their grades, and its words for them."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "volume", nargs="?", type=Path, metavar="VOLUME", help="volume, NIfTI; its .json is read if it lies beside"
    )
    parser.add_argument("--explore", action="store_true", help="instead of a volume: a phantom knee with dials")
    parser.add_argument("--seed", type=int, default=5, metavar="S", help="seed; of the explored phantom")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights; default: models/model.pt")
    parser.add_argument("--film", type=Path, metavar="FILE", help="film to show beside it (DICOM, NIfTI, PNG)")
    parser.add_argument("--spread", type=Path, metavar="FILE", help="spread over samples, laid over it in colour")
    parser.add_argument("--spacing", type=float, metavar="MM", help="pixel edge of films whose files do not say it, mm")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file to write; a page, .html")
    arguments = parser.parse_args()
    if arguments.explore == (arguments.volume is not None):
        parser.error("give either VOLUME or --explore")
    return arguments


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


def volume_of(arguments: argparse.Namespace) -> str:
    """The page of one volume."""
    values, spacing, description = read_volume(arguments.volume)
    spread = None
    if arguments.spread:
        spread, *_ = read_volume(arguments.spread)
        if spread.shape != values.shape:
            raise ValueError(f"{arguments.spread}: must have the volume's shape {values.shape}, got {spread.shape}.")
    sidecar = arguments.volume.with_name(stem_of(arguments.volume.name) + ".json")
    record = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
    side = record.get("side")
    film = read_film(arguments.film, side=side, spacing=arguments.spacing) if arguments.film else None
    return volume_page(
        unit_range(values),
        spacing_mm=[float(edge) for edge in spacing],
        title=stem_of(arguments.volume.name),
        synthetic=bool(record.get("synthetic")) or "SYNTHETIC" in description.upper(),
        film=film,
        spread=spread,
        facts={name: record[name] for name in FACTS if record.get(name) is not None},
    )


class Explored:
    """A phantom knee, and what the weights make of its film and readings, for one position of each dial.

    The same person throughout: what no dial turns is the same in all states, the noise of the sample included.
    """

    def __init__(self, seed: int, weights: Path | None) -> None:
        self.seed, self.network = seed, bundle.load(ROOT, weights=weights)
        grid = self.network.grid
        self.knees = OnTheFly(seed, 1, image_size=grid.rows, slices=grid.slices)
        self.shown = [round(depth * (grid.slices - 1)) for depth in np.linspace(0.2, 0.62, 6)]

    def __call__(self, state: tuple[int, ...]) -> np.ndarray:
        """Rows of pictures for a state."""
        turned = {
            name: grades[position] for (names, grades, _), position in zip(DIALS, state, strict=True) for name in names
        }
        healthy = dict.fromkeys(VARIABLES[1:], 0)
        person = sample_person(self.seed, 0, readings={side: healthy | turned for side in SIDES})
        knee = FlattenFilmd(FILM)(self.knees.knee(person))
        film, real = (knee[key].as_tensor() for key in (FILM, MRI))
        readings = person.knees[knee["side"]].readings
        vector = self.network.grade_table.encode(readings, policy=self.network.missing_readings)
        given = (film[None], torch.from_numpy(vector)[None])
        rows = {"phantom": real}
        with torch.no_grad():
            if getattr(self.network, "mean_head", None) is not None:
                rows["mean"] = self.network(*given, mean=True)[0]
            rows["sample"] = self.network(*given)[0]
        blank = torch.zeros_like(film[0])
        pictures = {
            name: [
                (film[0] + 1) / 2 if name == "phantom" else blank,
                *((volume[0, ..., self.shown] + 1) / 2).movedim(-1, 0),
            ]
            for name, volume in rows.items()
        }
        heads = ["film", *(f"slice {index + 1}" for index in self.shown)]
        return captioned_rows({name: [i.numpy() for i in images] for name, images in pictures.items()}, heads)


def explorer_of(arguments: argparse.Namespace) -> str:
    """The page of a phantom knee with dials."""
    explored = Explored(arguments.seed, arguments.weights)
    states = math.prod(len(grades) for _, grades, _ in DIALS)
    progress = tqdm(total=states, desc="states", unit="state")

    def picture(state: tuple[int, ...]) -> np.ndarray:
        progress.update()
        return explored(state)

    return explorer_page(
        "What the readings change: a phantom knee",
        {words: [str(grade) for grade in grades] for _, grades, words in DIALS},
        picture,
        about=(
            "<p>Turn a radiographic reading. The top row is the truth: the phantom's film, and its MRI. Below is what "
            "the weights make of that film and those readings: the posterior mean in one step, and one sample with the "
            "same noise in every state. A cyst is almost invisible on the film, so weights can know of it from the "
            "reading alone; the shipped ones hardly do.</p>"
            '<p class="notice"><strong>Phantom, and synthetic volumes.</strong> Not for diagnosis.</p>'
        ),
        caption=f"Phantom of seed {arguments.seed}; weights trained on: {explored.network.provenance()}. "
        "Coronal slices, posterior first; the patient's right on the image's left.",
    )


def main() -> int:
    arguments = parse()
    try:
        page = explorer_of(arguments) if arguments.explore else volume_of(arguments)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with whole(arguments.out) as temporary:
            temporary.write_text(page)
    except (ValueError, OSError, RuntimeError) as error:
        return fail(error)
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
