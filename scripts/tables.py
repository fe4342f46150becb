"""Run a table of methods unattended: cohort, trainings, evaluations, and the page that compares them.

PLAN is a JSON file such as configs/tables/smoke.json. What is done is not done again, so the same command goes on after
an interruption; --minutes runs it in pieces. A step that fails is reported with its log, the other rows go on, and the
exit code is 1 as long as anything is missing.
"""

import argparse
import math
import sys
from pathlib import Path

from bundle.command_line import fail
from bundle.tables import read_plan, run_plan
from bundle.tables.publish import publish

ROOT = Path(__file__).resolve().parents[1]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, metavar="PLAN", help="what the table consists of (JSON)")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder to write to: cohort, runs and logs"
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder for the page and its files; default: --out")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="M", help="start no step later than this")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes; trainings and evaluations at once"
    )
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    try:
        plan = read_plan(arguments.plan)
        outcome = run_plan(
            plan,
            root=ROOT,
            out=arguments.out.resolve(),
            minutes=arguments.minutes,
            workers=arguments.workers,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
        for step, reason in outcome.failed.items():
            print(f"failed: {step}: {reason}", file=sys.stderr)
        for step in outcome.left:
            print(f"not run: {step}", file=sys.stderr)
        for path in publish(plan, outcome, arguments.results or arguments.out):
            print(path)
    except (ValueError, OSError, RuntimeError) as error:
        return fail(error)
    return 0 if outcome.complete else 1


if __name__ == "__main__":
    sys.exit(main())
