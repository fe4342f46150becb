"""What is known of a phantom's knee and of no patient's: labels, joint space, landmarks and pose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np

from bundle.phantom import bones
from bundle.phantom.anatomy import Person
from bundle.phantom.composition import LABELS
from bundle.phantom.files import temporary, write_text
from bundle.phantom.film import Clutter, film_pixels
from bundle.phantom.mri import ISOCENTRE_MM, render_labels
from bundle.phantom.pose import Posed


def landmarks(posed: Posed) -> dict[str, np.ndarray]:
    """Named points of a posed knee in its scan frame (x lateral, y posterior, z superior), mm, each (3,)."""
    s = posed.knee.scale
    joint = (posed.femur.shift + posed.tibia.shift) / 2
    points = {"joint_centre": joint}
    for name, (cx, cy, rx, _) in bones.PLATEAU.items():
        outward = 1.0 if cx > 0 else -1.0
        points[f"plateau_{name}_centre"] = posed.tibia.apply(s * np.array([cx * 1.2, cy, 0.0]))
        points[f"plateau_{name}_rim"] = posed.tibia.apply(s * np.array([cx + outward * rx, cy, -1.5]))
    for name, x in zip(("medial", "lateral"), bones.CONDYLE_X, strict=True):
        points[f"condyle_{name}"] = posed.femur.apply(s * np.array([x, 2.0, 0.0]))
    points["femur_shaft"] = posed.femur.apply(s * np.array([4.0, -7.0, 75.0]))
    points["tibia_shaft"] = posed.tibia.apply(s * np.array([-2.0, -5.0, -75.0]))
    points["patella_centre"] = posed.patella.apply(np.zeros(3))
    return points


def to_ras(points: np.ndarray, side: str) -> np.ndarray:
    """Scan frame of a knee to RAS mm, as the MRI's affine has it."""
    outward = 1.0 if side == "R" else -1.0
    points = np.asarray(points, dtype=float)
    lateral = outward * (points[..., 0] + ISOCENTRE_MM)
    return np.stack([lateral, -points[..., 1], points[..., 2]], axis=-1)


def write_truth(
    folder: Path,
    person: Person,
    side: str,
    posed: Mapping[str, Posed],
    *,
    size: int,
    film_spacing_mm: float,
    volumes: bool = True,
    clutter: Clutter | None = None,
) -> None:
    """Write a knee's `<ID>_<side>.json` and its label volumes, supine (MRI) and standing (film).

    Args:
        folder: made if needed.
        person: whose knee.
        side: `R` or `L`.
        posed: that knee by scan, `film` and `mri`.
        size: pixels a side of the MRI; the labels lie on its grid.
        film_spacing_mm: detector pixel, to which the film's landmarks refer.
        volumes: write the label volumes too; a knee without an MRI has none.
        clutter: what the film was made with; a knee that is not on it has no `film_pixels`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{person.covariates.participant}_{side}"
    for scan, name in (("mri", "labels"), ("film", "labels_film")) if volumes else ():
        labels, affine = render_labels(posed[scan], size=size)
        image = nib.Nifti1Image(labels, affine)
        image.header.set_xyzt_units("mm")
        path = folder / f"{stem}_{name}.nii.gz"
        nib.save(image, temporary(path))
        temporary(path).replace(path)
    shown = clutter is None or side in clutter.sides
    knee = person.knees[side]
    record = {
        "readings": dict(knee.readings),
        "labels": LABELS,
        "joint_space_mm": {scan: held.joint_space_mm for scan, held in posed.items()},
        "landmarks_mm": {
            "mri": {name: _rounded(to_ras(point, side)) for name, point in landmarks(posed["mri"]).items()},
            "film": {name: _rounded(to_ras(point, side)) for name, point in landmarks(posed["film"]).items()},
        },
        "film_pixels": (
            {
                name: _rounded(film_pixels(person, point, side, spacing_mm=film_spacing_mm, clutter=clutter))
                for name, point in landmarks(posed["film"]).items()
            }
            if shown
            else {}
        ),
        "clutter": asdict(clutter) if clutter else None,
        "pose": {"film": asdict(knee.film_pose), "mri": asdict(knee.mri_pose)},
    }
    write_text(folder / f"{stem}.json", json.dumps(record, indent=2) + "\n")


def _rounded(point: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in point]
