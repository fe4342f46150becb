"""What evaluations kept, composed: methods side by side by grade, and a model told of findings and not told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bundle.readings import kl_words
from bundle.reports.kept import GRADES, OFF, ON, KeptSlice, grade_label
from bundle.reports.montage import SOBEL_CEILING, grey, sobel_difference
from bundle.reports.picture_grid import ImageRow, picture_grid
from bundle.reports.runs import MODEL

ORIENTATION = "Knees are shown as right knees, lateral on the left"
SOBEL = (
    "Sobel rows: absolute difference of the gradient magnitudes from the real slice's; white is none, black "
    f"{SOBEL_CEILING} of the intensity range and more."
)


def methods_picture(kept: Mapping[str, Mapping[str, KeptSlice]], *, foot: Sequence[str] = ()) -> bytes | None:
    """Film, a column a method, the real slice; two rows a grade, the lower one with Sobel differences.

    Args:
        kept: method's name to label, such as G-2, to what its evaluation kept.
        foot: paragraphs below.

    Returns:
        PNG file; None where no knee is in all of them. Methods that kept nothing are left out.
    """
    methods = {name: of for name, of in kept.items() if of}
    labels = [label for label in map(grade_label, GRADES) if methods and _common(methods, label)]
    if not labels:
        return None
    rows, mirrored = [], False
    for label in labels:
        one = next(iter(methods.values()))[label]
        made = [of[label].made[MODEL] for of in methods.values()]
        rows.append(
            ImageRow([one.film, *made, one.real], label=label, detail=f"{' '.join(one.knee)}, d = {one.depth:.2f}")
        )
        differences = [_difference(image, one.real) for image in made]
        rows.append(ImageRow([None, *differences, None], detail="Sobel difference", opens=False))
        mirrored |= one.mirrored
    absent = [label for label in map(grade_label, GRADES) if label not in labels]
    missing = f"No knee of {' or '.join(absent)} is in all of them." if absent else ""
    grades = "G-0, G-2, G-4: Kellgren-Lawrence grades; of each the first test knee by name, its middle coronal slice."
    return picture_grid(
        rows,
        heads=["X-ray", *methods, "Real MRI"],
        title="Methods side by side",
        foot=[" ".join(filter(None, (grades, missing, _orientation(mirrored), SOBEL))), *foot],
    )


def features_picture(features: Mapping[str, Mapping[str, KeptSlice]], *, foot: Sequence[str] = ()) -> bytes | None:
    """Film, slices without and with the finding's readings, the real one, and what the readings change.

    Args:
        features: model's name to finding to what its evaluation kept; the first model that has any is shown.
        foot: paragraphs below.

    Returns:
        PNG file; None where no model has any.
    """
    name, kept = next(((name, of) for name, of in features.items() if of), ("", {}))
    if not kept:
        return None
    rows = []
    for finding, one in kept.items():
        off, on = one.made[OFF], one.made[ON]
        change = 255 - grey(np.abs(on / 255 - off / 255) / SOBEL_CEILING)
        remark = f"; {one.remark}" if one.remark else ""
        detail = f"{' '.join(one.knee)}, {kl_words(one.kl_grade)}, d = {one.depth:.2f}{remark}"
        rows.append(ImageRow([one.film, off, on, change, one.real], label=finding.capitalize(), detail=detail))
        maps = [_difference(off, one.real), _difference(on, one.real)]
        rows.append(ImageRow([None, *maps, None, None], detail="Sobel difference", opens=False))
    words = (
        "On: the knee's own readings; off: those of the finding withheld, film, other readings and noise the same. Of "
        "each finding the first test knee by name whose readings have it, and the slice that changes most. Change: "
        f"absolute difference of on and off, white is none, black {SOBEL_CEILING} of the intensity range and more."
    )
    return picture_grid(
        rows,
        heads=["X-ray", "Feature off", "Feature on", "Change", "Real MRI"],
        title=f"Findings told and not told: {name}",
        foot=[f"{words} {_orientation(any(one.mirrored for one in kept.values()))} {SOBEL}", *foot],
    )


def _common(methods: Mapping[str, Mapping[str, KeptSlice]], label: str) -> bool:
    """Whether all methods kept the same knee under a label."""
    knees = {of[label].knee if label in of else None for of in methods.values()}
    return len(knees) == 1 and None not in knees


def _difference(image: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Sobel difference as grey values, agreement white."""
    return 255 - grey(sobel_difference(image / 255, real / 255) / SOBEL_CEILING)


def _orientation(mirrored: bool) -> str:
    return f"{ORIENTATION}{'; some are left knees, mirrored' if mirrored else ''}."
