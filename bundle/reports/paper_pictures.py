"""Several evaluations as the pictures of the paper: methods by grade, findings on and off, slice counts, scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bundle.reports.comparison import Comparison, statistics
from bundle.reports.kept import FEATURES_FILE, SLICES_FILE, read_kept
from bundle.reports.kept_pictures import features_picture, methods_picture
from bundle.reports.runs import Run
from bundle.reports.score_picture import METRICS, draw_scores
from bundle.reports.slice_count_picture import SECTION, draw_slice_counts
from bundle.reports.statistics import INTERVAL_WORDS
from bundle.writers import whole

METHODS, FEATURES, COUNTS, SCORES = "methods.png", "features.png", "slice_counts.png", "scores.png"
SYNTHETIC = "Research software, not a medical device; generated slices are synthetic and must not serve diagnosis."
PHANTOM = (
    "Digital knee phantom: films and real MRI alike are computed. The picture shows that the chain works, says nothing "
    "about patients and does not stand for the published one."
)


def write_pictures(
    runs: Sequence[tuple[str, Run]],
    comparison: Comparison,
    folder: str | Path,
    *,
    columns: Sequence[str] | None = None,
    note: str = "",
) -> list[Path]:
    """Write those pictures for which the runs have kept something; an older one that cannot be made anew is removed.

    Args:
        runs: name and run, in the order of the table; of several with one name the first is shown.
        comparison: of these runs.
        folder: made if absent.
        columns: names of the runs that `methods.png` shows, in its order; None is all of them.
        note: what a reader must not conclude, below each picture.

    Returns:
        the files.

    Raises:
        ValueError: if a run's kept slices cannot be read.
        OptionalImportError: if matplotlib is missing.
    """
    first: dict[str, Run] = {}
    for name, run in runs:
        first.setdefault(name, run)
    foot = [text for text in (note, PHANTOM if comparison.phantom else "", SYNTHETIC) if text]
    shown = list(first) if columns is None else [name for name in columns if name in first]
    kept = {name: read_kept(first[name].folder / SLICES_FILE) for name in shown}
    features = {name: read_kept(run.folder / FEATURES_FILE) for name, run in first.items()}
    curves = {name: run.summary["sections"][SECTION] for name, run in first.items() if SECTION in _sections(run)}
    drawn: dict[str, Callable[[], bytes | None]] = {
        METHODS: lambda: methods_picture(kept, foot=foot),
        FEATURES: lambda: features_picture(features, foot=foot),
        COUNTS: lambda: _counts_picture(curves, foot=foot),
        SCORES: lambda: _scores_picture(comparison, foot=foot),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in drawn.items():
        picture = draw()
        if picture is None:
            (folder / name).unlink(missing_ok=True)
            continue
        with whole(folder / name) as temporary:
            temporary.write_bytes(picture)
        paths.append(folder / name)
    return paths


def _counts_picture(curves: Mapping[str, Mapping[str, object]], *, foot: Sequence[str]) -> bytes | None:
    if not curves:
        return None
    how_many = dict.fromkeys(str(section["note"]).partition(".")[0] for section in curves.values())
    words = f"{', '.join(how_many)}. Dashed: all compared at the slice distance of the coarsest volume."
    return draw_slice_counts(curves, title="Adjacent-slice correlation over the number of slices", foot=[words, *foot])


def _scores_picture(comparison: Comparison, *, foot: Sequence[str]) -> bytes | None:
    if not set(METRICS) & set(comparison.metrics):
        return None
    knees, people = len(comparison.knees), len(set(comparison.participants))
    words = f"Median over {knees} knees of {people} participants; below it the mean with its 95 % interval."
    return draw_scores(statistics(comparison), title="Scores of the methods", foot=[words, INTERVAL_WORDS + ".", *foot])


def _sections(run: Run) -> Mapping[str, object]:
    return run.summary.get("sections") or {}
