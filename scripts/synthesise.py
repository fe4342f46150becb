"""Turn knee radiographs into MRI volumes.

Each film gives `<stem>_mri_synthetic.nii.gz` with a `.json` and a `.png` beside it, and with `--format dicom` a folder
`<stem>_mri_synthetic_dicom`. What is there already, made of the same film with the same weights and settings, is not
made again. The volumes are synthetic: they are for research and never for diagnosis.
"""

import argparse
import json
import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bundle.api import PREDICT, Synthesiser
from bundle.command_line import check_folder, fail, one_line, print_names_as_they_are
from bundle.covariates import encode as encode_covariates
from bundle.data.film_source import origin_of
from bundle.keys import CONFIDENCE
from bundle.readings import grade_table
from bundle.transforms.film_files import check_film_file
from bundle.transforms.film_trial import check_that_reading_ends
from bundle.writers import KINDS, file_hash, finished, unique_stems, write_synthetic

ROOT = Path(__file__).resolve().parents[1]
ENDINGS = {".dcm", ".nii", ".gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ""}
MADE = re.compile(r"_(mri|spread)_synthetic(\.nii\.gz|\.png|_dicom)$")
"""Outputs, which may lie among the films."""
NOT_SETTINGS = {"films", "out", "weights", "device", "accept_phantom_weights", "overwrite", "json"}
"""Options that change no output, or are recorded otherwise."""


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
    parser.add_argument("--format", choices=("nifti", "dicom"), default="nifti", help="dicom: a DICOM series as well")
    parser.add_argument(
        "--dicom-kind",
        choices=tuple(KINDS),
        default="sc",
        help="sc: one multi-frame Secondary Capture; mr: MR slices, for viewers that need volumes; default: sc",
    )
    parser.add_argument(
        "--keep-identity", action="store_true", help="DICOM with the film's patient ID, patient name and study UID"
    )
    parser.add_argument("--overwrite", action="store_true", help="make again what is there already")
    parser.add_argument("--json", action="store_true", help="print one JSON line a volume instead of paths")
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
            readings = json.loads(path.read_text(), object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"--readings {path}: not JSON of readings ({error}).") from None
        if not isinstance(readings, dict):
            raise ValueError(f'--readings {path}: must be an object such as {{"XRKL": 2}}.')
    else:
        pairs = []
        for pair in given:
            name, _, grade = pair.partition("=")
            try:
                pairs.append((name, float(grade)))
            except ValueError:
                raise ValueError(f"--readings {pair}: must be VARIABLE=GRADE, such as XRKL=2.") from None
        readings = once(pairs, where="--readings")
    grade_table("oai").validate(readings, where="--readings")
    return readings


def once(pairs: list[tuple[str, Any]], *, where: str = "its object") -> dict[str, Any]:
    """Names and values as a dictionary; ValueError where a name comes twice, for which of the two counts?"""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{where}: `{name}` comes twice; give it once.")
        found[name] = value
    return found


def read_covariates(pairs: list[str]) -> dict[str, float | str]:
    """Covariates of the command line; ValueError on what is no NAME=VALUE, unknown, or outside its limits."""
    named: list[tuple[str, float | str]] = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--covariates {pair}: must be NAME=VALUE, such as age=61.")
        try:
            named.append((name, float(value)))
        except ValueError:
            named.append((name, value))
    covariates = once(named, where="--covariates")
    encode_covariates(covariates, where="--covariates")
    return covariates


def find_films(given: list[str]) -> list[Path]:
    """Files given, and the films inside folders given; none twice, and no output of an earlier run."""
    films = []
    for name in given:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and is_film_name(p.relative_to(path)))
            if not inside:
                raise ValueError(f"{path}: the folder holds no film (DICOM, NIfTI or PNG).")
            films += inside
        elif path.is_file():
            films.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder.")
    return list({film.resolve(): film for film in films}.values())


def is_film_name(path: Path) -> bool:
    """Whether a file inside a folder may be a film: by its ending, unhidden, and no output of this command."""
    hidden_or_made = any(part.startswith(".") or MADE.search(part) for part in path.parts)
    return path.suffix.lower() in ENDINGS and not hidden_or_made


def settings_of(arguments: argparse.Namespace, given: dict, synthesiser: Synthesiser) -> dict:
    """What a volume depends on beside its film; `given` is its side, readings and covariates."""
    chosen = {name: value for name, value in vars(arguments).items() if name not in NOT_SETTINGS}
    graded_by = file_hash(synthesiser.readings_weights) if given["readings"] == PREDICT else None
    weights = {"weights_sha256": synthesiser.weights_sha256, "readings_weights_sha256": graded_by}
    return chosen | given | {"bundle_version": synthesiser.version} | weights


def make(film: Path, stem: str, arguments: argparse.Namespace, given: dict, synthesiser: Synthesiser) -> dict:
    """Make the files of one volume, unless they are there; gives the line that `--json` prints."""
    start = time.perf_counter()
    settings = settings_of(arguments, given, synthesiser)
    check_film_file(film)
    film_sha256 = file_hash(film)
    if not arguments.overwrite:
        there = finished(arguments.out, stem, film_sha256=film_sha256, settings=settings)
        if there is not None:
            files, record = there
            return line(film, record, files, skipped=True)
    check_that_reading_ends(film)
    result = synthesiser(
        film,
        **given,
        slices=arguments.slices,
        depths=arguments.depth,
        steps=arguments.steps,
        samples=arguments.samples,
        seed=arguments.seed,
        mean=arguments.mean,
        accept_phantom_weights=arguments.accept_phantom_weights,
    )
    record = result.record
    origin = None
    if arguments.format == "dicom":
        origin = origin_of(
            film,
            side=record["side"],
            version=record["bundle_version"],
            weights=record["weights_sha256"],
            trained_on=record["trained_on"],
            keep_identity=arguments.keep_identity,
        )
    seconds = round(time.perf_counter() - start, 2)
    record = {**record, "film_sha256": film_sha256, "settings": settings, "seconds": seconds}
    files = write_synthetic(
        result.volume,
        result.film,
        arguments.out,
        stem,
        record=record,
        spread=result.spread,
        origin=origin,
        dicom_kind=arguments.dicom_kind,
    )
    return line(film, record, files, skipped=False)


def line(film: Path, record: dict, files: list[Path], *, skipped: bool) -> dict:
    """What `--json` prints of a volume."""
    shown = {name: record.get(name) for name in ("side", "seconds", CONFIDENCE, "weights_sha256")}
    return {"film": str(film), **shown, "skipped": skipped, "files": [str(file) for file in files]}


def main() -> int:
    arguments = parse()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    print_names_as_they_are()
    try:
        check_folder(arguments.out, "--out")
        if arguments.format != "dicom" and (arguments.keep_identity or arguments.dicom_kind != "sc"):
            raise ValueError("--keep-identity and --dicom-kind speak of DICOM files; add --format dicom.")
        readings = read_readings(arguments.readings)
        covariates = read_covariates(arguments.covariates)
        films = find_films(arguments.films)
        stems = unique_stems(films)
        device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
        synthesiser = Synthesiser(ROOT, device=device, weights=arguments.weights, spacing_mm=arguments.spacing)
        if readings == PREDICT:
            synthesiser.estimator()  # fails here, once, where there is none
        if arguments.mean:
            synthesiser.network.check_mean_head()
        synthesiser.check_covariates(covariates)
    except (ValueError, OSError, RuntimeError) as error:
        return fail(error)
    sides = ("R", "L") if arguments.side == "both" else (arguments.side,)
    failed = skipped = 0
    for film, plain in zip(tqdm(films, desc="films", unit="film", disable=len(films) == 1), stems, strict=True):
        for side in sides:
            stem = plain + (f"_{side}" if arguments.side == "both" else "")
            try:
                given = {"side": side, "readings": readings, "covariates": covariates}
                made = make(film, stem, arguments, given, synthesiser)
            except Exception as error:  # whatever is wrong with one film, the others are made
                failed += 1
                reason = error if isinstance(error, ValueError | OSError | RuntimeError) else _named(film, error)
                fail(reason)
                if arguments.json:
                    print(json.dumps({"film": str(film), "side": side, "error": one_line(reason)}), flush=True)
                continue
            skipped += made["skipped"]
            print(json.dumps(made) if arguments.json else "\n".join(made["files"]), flush=True)
    wanted = len(films) * len(sides)
    if failed:
        print(f"{failed} of {wanted} volumes could not be made", file=sys.stderr)
    if skipped:
        print(f"{skipped} of {wanted} volumes were there already; --overwrite makes them again", file=sys.stderr)
    return 1 if failed else 0


def _named(film: Path, error: Exception) -> RuntimeError:
    return RuntimeError(f"{film}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
