"""Put several evaluations side by side: one table with intervals and paired tests against each baseline.

Each RUN_DIR is a folder that an evaluation wrote (metrics.csv, summary.json). Write NAME=RUN_DIR to name its row; runs
of one NAME are repetitions of one training, and a knee's score is then their mean. Knees that not all runs have are
left out and counted on the page. Writes comparison.csv (statistics, all knees and by Kellgren-Lawrence grade),
paired.csv (differences, knee by knee), comparison.json (both, with conventions) and comparison.html; and, as far as the
runs have kept what it takes, pictures, which the page holds, too: methods.png (knees of grades 0, 2, 4 with Sobel
differences), features.png (findings told and not told), slice_counts.png and scores.png.
"""

import argparse
import sys
from pathlib import Path

from bundle.command_line import fail
from bundle.engines import track_comparison
from bundle.reports.comparison import compare
from bundle.reports.comparison_page import write_comparison
from bundle.reports.paper_pictures import write_pictures
from bundle.reports.runs import MODEL, Run, read_run


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="an evaluation's folder, or NAME=folder")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--baseline",
        action="append",
        metavar="NAME",
        help="row that every other row is tested against; may be given again; default: every row but the first",
    )
    parser.add_argument("--title", default="Comparison of models", metavar="TEXT", help="heading of the page")
    parser.add_argument("--note", default="", metavar="TEXT", help="a paragraph at the head of the page")
    parser.add_argument("--tracking", choices=("mlflow",), help="record the table in DIR/mlruns.db, too")
    return parser.parse_args(arguments)


def read_runs(given: list[str]) -> list[tuple[str, Run]]:
    """Each run with the name of its row: as given, else its model's, with the folder where two would be alike."""
    found: list[tuple[str | None, Run]] = []
    for text in given:
        name, equals, folder = text.partition("=")
        named = bool(equals) and not Path(text).is_dir()
        found.append((name if named else None, read_run(folder if named else text)))
    unnamed = [run.name_of(MODEL) for name, run in found if name is None]
    taken = {name for name, _ in found if name is not None}
    runs = []
    for name, run in found:
        own = run.name_of(MODEL)
        alike = unnamed.count(own) > 1 or own in taken
        runs.append((name or (f"{own} ({run.folder})" if alike else own), run))
    return runs


def main() -> int:
    arguments = parse()
    try:
        runs = read_runs(arguments.runs)
        comparison = compare(runs, baselines=arguments.baseline)
        pictures = write_pictures(runs, comparison, arguments.out, note=arguments.note)
        words = {"title": arguments.title, "note": arguments.note}
        paths = [*write_comparison(comparison, arguments.out, **words, pictures=pictures), *pictures]
        if arguments.tracking:
            track_comparison(comparison, arguments.out, title=arguments.title, files=paths)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        return fail(error)
    for note in comparison.notes:
        print(note, file=sys.stderr)
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
