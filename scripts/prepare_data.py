"""Prepare OAI's films and MR series for training: pairs on the model's grid, split by participant.

Writes films/, volumes/, dataset.json (a MONAI datalist), report.json (how many at each step, why each drop) and
rejected.csv. A run that was interrupted goes on where it stopped.
"""

import argparse
import re
import sys
from pathlib import Path

from bundle.data.prepare import Options, prepare
from bundle.readings import MISSING_POLICIES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oai", required=True, type=Path, metavar="DIR", help="OAI's directory release")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the prepared set")
    parser.add_argument("--visit", default="00m", metavar="00m", help="visit; default 00m")
    parser.add_argument("--size", type=int, default=256, metavar="N", help="rows and columns over 160 mm; default 256")
    parser.add_argument("--slices", type=int, default=50, metavar="N", help="slices in the window; default 50")
    parser.add_argument(
        "--missing", choices=MISSING_POLICIES, default="zeros", help="what a missing reading becomes; default zeros"
    )
    parser.add_argument("--spacing", type=float, metavar="MM", help="pixel edge of films whose files do not say it, mm")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: one a core")
    arguments = parser.parse_args()
    try:
        options = Options(
            image_size=arguments.size,
            slices=arguments.slices,
            spacing_mm=arguments.spacing,
            visit=arguments.visit,
            missing=arguments.missing,
        )
        report = prepare(
            arguments.oai,
            arguments.out,
            options,
            workers=arguments.workers,
            say=lambda text: print(text, file=sys.stderr),
        )
    except (ValueError, OSError, RuntimeError) as error:
        print("error: " + re.sub(r"\s+", " ", str(error)), file=sys.stderr)
        return 1
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
    for name in ("dataset.json", "report.json", "rejected.csv"):
        print(arguments.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
