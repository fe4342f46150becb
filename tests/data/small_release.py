"""A made-up release of a few knees, small enough to prepare in a second."""

from __future__ import annotations

import json

import fabricate_oai as oai

from bundle.data import Options
from bundle.data.datalist import SPLITS

SMALL = Options(image_size=64)
PICTURE = oai.knee_picture(300, 400, 1.0, [(150.0, 105.0, "R"), (150.0, 300.0, "L")])


def knees(tree, participants, *, sides="R", edit_film=None, edit_series=None, release="0.C.2"):
    for participant in participants:
        film = oai.film_dataset(PICTURE, spacing=1.0)
        film.PatientName = "Doe^Jane"
        if edit_film:
            edit_film(film)
        tree.series(participant, "Bilateral PA Fixed Flexion Knee", [film], release=release)
        for side in sides:
            volume = oai.knee_volume()
            volume = volume[:, ::-1] if side == "L" else volume
            slices = oai.mr_datasets(volume, spacing=2.5, side=side, participant=participant)
            if edit_series:
                slices = edit_series(slices)
            tree.series(participant, f"COR_T1_3D_FLASH_{'RIGHT' if side == 'R' else 'LEFT'}", slices, release=release)
    tree.write_contents()


def table(tree, participants):
    rows = [{"ID": p, "SIDE": s, "READPRJ": "15", "XRKL": "1: 1"} for p in participants for s in ("1: Right", "2")]
    tree.readings(rows)
    tree.table("Enrollees.txt", ["ID|P02SEX|V00SITE", *(f"{p}|2: Female|B" for p in participants)])
    tree.table("AllClinical00.txt", ["ID|V00AGE|P01BMI", *(f"{p}|61|.: Missing" for p in participants)])


def entries(out):
    content = json.loads((out / "dataset.json").read_text())
    return [entry for split in SPLITS for entry in content[split]]


def quiet(_):
    """Say nothing."""
