"""Make a cohort of digital knees, laid out as the Osteoarthritis Initiative (OAI) is released."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bundle.command_line import fail
from bundle.phantom.cohort import Recipe, make_cohort
from bundle.phantom.faults import PACKAGINGS, faults_for
from bundle.phantom.mri import SIZES
from bundle.phantom.posterior import GIVEN
from bundle.phantom.sheet import write_sheet
from bundle.phantom.worlds import WORLDS
from bundle.readings import NAMED_BY


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to: the release")
    parser.add_argument("--participants", type=int, required=True, metavar="N", help="how many people")
    parser.add_argument(
        "--seed", type=int, required=True, metavar="S", help="seed; participant i of a cohort does not depend on N"
    )
    parser.add_argument("--size", choices=tuple(SIZES), default="demo", help="pixels a side of the MRI; 64, 256 or 512")
    parser.add_argument("--only", nargs="+", metavar="ID", help="make these of the N people alone")
    parser.add_argument("--truth", action="store_true", help="write label volumes, joint spaces, landmarks and poses")
    parser.add_argument("--enrich", action="store_true", help="raise rare findings to one knee in four")
    parser.add_argument(
        "--packaging", choices=PACKAGINGS, default="directory", help="folders as on OAI's discs, or NDA's archives"
    )
    enough = max(len(faults_for(packaging)) for packaging in PACKAGINGS)
    parser.add_argument(
        "--faults", action="store_true", help=f"plant a fault in each participant; {enough} show every one"
    )
    parser.add_argument(
        "--posterior", type=int, default=0, metavar="K", help="write K other MRI volumes that share each film"
    )
    parser.add_argument(
        "--given", choices=GIVEN, default="film", help="what they share: the film, and readings and covariates too"
    )
    parser.add_argument("--shift", choices=tuple(WORLDS), default="natural", help="draw from shifted statistics")
    parser.add_argument(
        "--all-read", type=float, default=0.0, metavar="SHARE", help="people whose every finding is read, 0 to 1"
    )
    parser.add_argument("--switch", choices=tuple(NAMED_BY), help="give everybody this finding, or take it: twins")
    parser.add_argument(
        "--distractors", type=float, default=0.0, metavar="SHARE", help="share of films with clutter, 0 to 1"
    )
    parser.add_argument("--workers", type=int, default=None, metavar="N", help="processes; none given: one a core")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="also draw a contact sheet: people, then findings"
    )
    arguments = parser.parse_args()
    try:
        recipe = Recipe(
            seed=arguments.seed,
            size=arguments.size,
            enrich=arguments.enrich,
            truth=arguments.truth,
            packaging=arguments.packaging,
            faults=arguments.faults,
            shift=arguments.shift,
            all_read=arguments.all_read,
            switch=arguments.switch,
            distractors=arguments.distractors,
            posterior=arguments.posterior,
            given=arguments.given,
        )
        made = make_cohort(
            arguments.out, recipe, participants=arguments.participants, only=arguments.only, workers=arguments.workers
        )
        if arguments.sheet:
            shown = min(arguments.participants, 12)
            write_sheet(arguments.sheet, seed=arguments.seed, participants=shown, enrich=arguments.enrich)
    except (ValueError, OSError) as error:
        return fail(error)
    asked = arguments.participants if arguments.only is None else len(set(arguments.only))
    print(f"{made} of {asked} participants made, the others were there", file=sys.stderr)
    print(arguments.out)
    if arguments.sheet:
        print(arguments.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
