"""Prepare films and MR series for training: pairs on the model's grid, split by participant.

Reads OAI's directory release, NDA's packages (image03.txt and one .tar.gz a series), or a list of your own files.
Writes films/, volumes/, dataset.json (a MONAI datalist), report.json and report.html (how many at each step, what the
knees look like) and rejected.csv (every drop with its reason). A run that was interrupted goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

from bundle.command_line import fail, print_names_as_they_are
from bundle.data.dry_run import dry_run
from bundle.data.oai_index import MR_SERIES
from bundle.data.prepare import Options, prepare
from bundle.readings import MISSING_POLICIES

FINDER = Path(__file__).resolve().parents[1] / "models" / "knee_finder.pt"
FILES = ("dataset.json", "report.json", "report.html", "rejected.csv")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oai", type=Path, metavar="DIR", help="folder that holds OAI's release, at any depth")
    parser.add_argument(
        "--pairs", type=Path, metavar="FILE.csv", help="your own files instead: participant, film, mri, side, ..."
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to: the prepared set")
    parser.add_argument("--visit", nargs="+", default=["00m"], metavar="00m", help="visits, pooled; default 00m")
    parser.add_argument("--series", default=MR_SERIES, metavar="NAME", help=f"coronal MR series; default {MR_SERIES}")
    parser.add_argument("--size", type=int, default=256, metavar="N", help="rows and columns over 160 mm; default 256")
    parser.add_argument("--slices", type=int, default=50, metavar="N", help="slices of a volume; default 50")
    parser.add_argument(
        "--missing", choices=MISSING_POLICIES, default="zeros", help="what a missing reading becomes; default zeros"
    )
    parser.add_argument("--spacing", type=float, metavar="MM", help="pixel edge of films whose files do not say it, mm")
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="boxes around knees (CSV: participant, side, left, top, right, bottom)",
    )
    parser.add_argument("--holdout-site", metavar="X", help="clinical site whose participants are the test split")
    parser.add_argument(
        "--split-file", type=Path, metavar="FILE", help="IDs by split (CSV): followed if it is there, else written"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what is there and what it needs; write nothing")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: one a core")
    arguments = parser.parse_args()
    if (arguments.oai is None) == (arguments.pairs is None):
        parser.error("name one of --oai DIR and --pairs FILE.csv")
    if arguments.out is None and not arguments.dry_run:
        parser.error("name a folder with --out DIR")
    return arguments


def describe(found: dict) -> None:
    for name, count in found["counts"].items():
        print(f"{name}: {count}")
    for name, count in found["sequences"].items():
        print(f"series {name}: {count}")
    for reason, count in found["dropped"].items():
        print(f"left out: {count} x {reason}")
    print(f"with_readings: {found['with_readings']}")
    if found["hours"] is None:
        print("disk and time: not known, none of the knees that were tried could be prepared")
    else:
        print(f"disk: {found['gigabytes']:.2f} GB; time: {found['hours']:.2f} h (from {found['tried']} knees)")


def main() -> int:
    arguments = parse()
    print_names_as_they_are()
    try:
        options = Options(
            image_size=arguments.size,
            slices=arguments.slices,
            spacing_mm=arguments.spacing,
            visit=tuple(arguments.visit),
            missing=arguments.missing,
            series=arguments.series,
        )
        files = {"pairs": arguments.pairs, "boxes": arguments.boxes, "finder": FINDER, "workers": arguments.workers}
        if arguments.dry_run:
            found = dry_run(arguments.oai, options, **files)
            describe(found)
            return 0 if found["counts"]["pairs"] else 1
        report = prepare(
            arguments.oai,
            arguments.out,
            options,
            **files,
            holdout_site=arguments.holdout_site,
            split_file=arguments.split_file,
            say=lambda text: print(text, file=sys.stderr),
        )
    except (ValueError, OSError, RuntimeError) as error:
        return fail(error)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    counts = report["counts"]
    print(
        f"{counts['prepared']} knees prepared of {counts['pairs']} pairs; {len(report['dropped'])} drops",
        file=sys.stderr,
    )
    for name in ("training", "validation", "test"):
        print(f"{name}: {counts[name]}")
    for name in FILES:
        print(arguments.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
