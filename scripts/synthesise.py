"""Turn knee radiographs into MRI volumes.

Each film gives `<stem>_mri_synthetic.nii.gz` with a `.json` and a `.png` beside it. The volumes are synthetic: they
are for research and never for diagnosis.
"""

import argparse
import json
import logging
import re
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from bundle.api import PREDICT, Synthesiser
from bundle.covariates import encode as encode_covariates
from bundle.readings import grade_table
from bundle.writers import stem_of, write_synthetic

ROOT = Path(__file__).resolve().parents[1]
ENDINGS = {".dcm", ".nii", ".gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ""}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", metavar="FILM_OR_FOLDER", help="film (DICOM, NIfTI, PNG) or folder")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write to: the volumes")
    parser.add_argument("--side", choices=("R", "L", "both"), help="knee; default: the header's laterality")
    parser.add_argument(
        "--readings",
        nargs="+",
        metavar="XRKL=2",
        help="radiographic readings, as VARIABLE=GRADE or one JSON file; `predict`: graded by models/readings.pt",
    )
    parser.add_argument(
        "--covariates",
        nargs="+",
        default=[],
        metavar="age=61",
        help="age (years), sex (F or M), bmi (kg/m2), as NAME=VALUE, for weights that were trained with them",
    )
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--slices", type=int, metavar="N", help="slices of a volume; default: the weights' number")
    depth.add_argument("--depth", type=float, nargs="+", metavar="D", help="slice positions in [0, 1], in equal steps")
    parser.add_argument("--steps", type=int, metavar="N", help="sampling steps; default: the network's")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--samples", type=int, default=1, metavar="K", help="samples; above 1: mean and spread")
    output.add_argument("--mean", action="store_true", help="the mean head's volume, in one step without sampling")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed; of the noise")
    parser.add_argument("--spacing", type=float, metavar="MM", help="pixel edge of films whose files do not say it, mm")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights; default: models/model.pt")
    parser.add_argument("--device", default=None, metavar="D", help="cpu or cuda; default: cuda where there is one")
    parser.add_argument(
        "--accept-phantom-weights", action="store_true", help="go on although the weights know phantom knees alone"
    )
    return parser.parse_args(arguments)


def read_readings(given: list[str] | None) -> dict[str, float | None] | str | None:
    """Readings of the command line: pairs, one JSON file, or the word `predict`."""
    if not given:
        return None
    if given == [PREDICT]:
        return PREDICT
    if len(given) == 1 and "=" not in given[0]:
        path = Path(given[0])
        if not path.is_file():
            raise ValueError(f"--readings {given[0]}: no such file; give VARIABLE=GRADE or a JSON file.")
        try:
            readings = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"--readings {path}: not JSON ({error}).") from None
        if not isinstance(readings, dict):
            raise ValueError(f'--readings {path}: must be an object such as {{"XRKL": 2}}.')
    else:
        readings = {}
        for pair in given:
            name, _, grade = pair.partition("=")
            try:
                readings[name] = float(grade)
            except ValueError:
                raise ValueError(f"--readings {pair}: must be VARIABLE=GRADE, such as XRKL=2.") from None
    grade_table("oai").validate(readings, where="--readings")
    return readings


def read_covariates(pairs: list[str]) -> dict[str, float | str]:
    """Covariates of the command line; ValueError on what is no NAME=VALUE, unknown, or outside its limits."""
    covariates: dict[str, float | str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--covariates {pair}: must be NAME=VALUE, such as age=61.")
        try:
            covariates[name] = float(value)
        except ValueError:
            covariates[name] = value
    encode_covariates(covariates, where="--covariates")
    return covariates


def find_films(given: list[str]) -> list[Path]:
    """Files given, and the films inside folders given."""
    films = []
    for name in given:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in ENDINGS)
            if not inside:
                raise ValueError(f"{path}: the folder holds no film (DICOM, NIfTI or PNG).")
            films += inside
        elif path.is_file():
            films.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder.")
    return films


def main() -> int:
    arguments = parse()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        readings = read_readings(arguments.readings)
        covariates = read_covariates(arguments.covariates)
        films = find_films(arguments.films)
        device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
        synthesiser = Synthesiser(ROOT, device=device, weights=arguments.weights, spacing_mm=arguments.spacing)
        if readings == PREDICT:
            synthesiser.estimator()  # fails here, once, where there is none
        if arguments.mean:
            synthesiser.network.check_mean_head()
        synthesiser.check_covariates(covariates)
    except (ValueError, OSError, RuntimeError) as error:
        return _fail(error)
    sides = ("R", "L") if arguments.side == "both" else (arguments.side,)
    failed = 0
    for film in tqdm(films, desc="films", unit="film", disable=len(films) == 1):
        for side in sides:
            stem = stem_of(film.name) + (f"_{side}" if arguments.side == "both" else "")
            start = time.perf_counter()
            try:
                result = synthesiser(
                    film,
                    readings,
                    side=side,
                    covariates=covariates,
                    slices=arguments.slices,
                    depths=arguments.depth,
                    steps=arguments.steps,
                    samples=arguments.samples,
                    seed=arguments.seed,
                    mean=arguments.mean,
                    accept_phantom_weights=arguments.accept_phantom_weights,
                )
                record = {**result.record, "seconds": round(time.perf_counter() - start, 2)}
                files = write_synthetic(
                    result.volume, result.film, arguments.out, stem, record=record, spread=result.spread
                )
            except (ValueError, OSError, RuntimeError) as error:
                failed += 1
                _fail(error)
                continue
            for file in files:
                print(file)
    if failed:
        print(f"{failed} of {len(films) * len(sides)} volumes could not be made", file=sys.stderr)
    return 1 if failed else 0


def _fail(error: Exception) -> int:
    print("error: " + re.sub(r"\s+", " ", str(error)), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
