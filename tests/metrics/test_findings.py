"""Findings: each rule on blocks of bone, where what is there is known, and the section that counts them."""

import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from bundle.handlers.findings import FindingsReport, named
from bundle.metrics.findings import THRESHOLDS, finding_scores, found
from bundle.readings import grade_table

SIZE, SLICES = 64, 24
EDGE = 160 / SIZE
SPACING = (EDGE, EDGE, 75 / SLICES)
PLATEAU = SIZE // 2 + 1


def sound():
    """Femur and tibia as dark blocks, 8 mm of bright cartilage between them; nothing else."""
    labels = np.zeros((SIZE, SIZE, SLICES), np.uint8)
    labels[6 : PLATEAU - 3, 14:50] = 1
    labels[PLATEAU:-6, 14:50] = 2
    volume = np.where(labels > 0, -0.7, -0.5)
    volume[PLATEAU - 3 : PLATEAU, 14:50] = 0.7
    return volume, labels


def at(row, column, slice_, radius_mm):
    index = np.indices((SIZE, SIZE, SLICES))
    steps = [(index[k] - centre) * SPACING[k] for k, centre in enumerate((row, column, slice_))]
    return np.sqrt(sum(step**2 for step in steps)) <= radius_mm


def planted(finding, side):
    """The sound knee with one finding; the medial compartment has the high columns."""
    volume, labels = sound()
    column = 41 if side == "medial" else 22
    if finding == "cyst":
        volume[at(PLATEAU + 2, column, 12, 4.0)] = 0.6
        labels[at(PLATEAU + 2, column, 12, 4.0)] = 0  # a segmentation may leave a hole
    elif finding == "chondrocalcinosis":
        for slice_ in range(2, SLICES, 3):
            for along in (-5, -2, 1, 4):
                volume[PLATEAU - 2, column + along, slice_] = -0.9
    else:
        index = np.indices((SIZE, SLICES))
        away = ((index[0] - column) * EDGE / 8) ** 2 + ((index[1] - 12) * SPACING[2] / 10) ** 2
        depth = np.round(6 * np.exp(-0.5 * away) / EDGE).astype(int)
        rows = np.arange(SIZE)[:, None, None]
        hollow = (labels == 2) & (rows < PLATEAU + depth[None])
        labels[hollow], volume[hollow] = 0, 0.7
    return volume, labels


def calls(volume, labels):
    return found(finding_scores(volume, labels, spacing_mm=SPACING))


def test_a_sound_knee_has_none():
    assert all(call is False for sides in calls(*sound()).values() for call in sides.values())


@pytest.mark.parametrize("side", ["medial", "lateral"])
@pytest.mark.parametrize("finding", THRESHOLDS)
def test_a_planted_finding_is_called_in_its_compartment_and_there_alone(finding, side):
    called = {(f, s) for f, sides in calls(*planted(finding, side)).items() for s, call in sides.items() if call}
    assert called == {(finding, side)}


def test_a_marrow_lesion_is_no_cyst():
    """Half as bright and twice as wide."""
    volume, labels = sound()
    lesion = at(PLATEAU + 2, 41, 12, 8.0) & (labels == 2)
    volume[lesion] = -0.2
    assert calls(volume, labels)["cyst"]["medial"] is False


def test_without_a_bone_there_is_no_score():
    volume, labels = sound()
    scores = finding_scores(volume, np.where(labels == 1, 1, 0), spacing_mm=SPACING)
    assert all(np.isnan(score) for sides in scores.values() for score in sides.values())
    assert all(call is None for sides in found(scores).values() for call in sides.values())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"bones": np.zeros((2, 2, 2))}, "one shape"),
        ({"spacing_mm": (1, 1)}, "voxel edges"),
        ({"volume": np.full((SIZE, SIZE, SLICES), np.nan)}, "finite"),
    ],
)
def test_bad_input_is_refused(change, word):
    volume, labels = sound()
    given = {"volume": volume, "bones": labels, "spacing_mm": SPACING} | change
    with pytest.raises(ValueError, match=word):
        finding_scores(given["volume"], given["bones"], spacing_mm=given["spacing_mm"])


def test_readings_name_findings_and_missing_ones_name_nothing():
    vector = grade_table("oai").encode({"XRCYFM": 0, "XRCYTM": 2, "XRATTL": 0})
    assert named(vector)["cyst"] == {"medial": True, "lateral": None}
    assert named(vector)["attrition"] == {"medial": None, "lateral": False}


def test_section_counts_what_is_called_with_readings_on_off_and_exchanged():
    """Two knees, cyst medially and none: with readings each volume has what is named, without none has, exchanged
    each has the other's, which agrees with the exchanged readings.
    """
    table = grade_table("oai")
    sick, well = table.encode({"XRCYTM": 1, "XRCYTL": 0}), table.encode({"XRCYTM": 0, "XRCYTL": 0})
    volumes = [planted("cyst", "medial")[0], sound()[0]]
    names = {"pred": "readings on", "pred_off": "off", "pred_swapped": "exchanged"}
    engine = Engine(lambda engine, item: [item["volumes"]])
    knees = []
    for n, vectors in enumerate([(sick, well), (well, sick)]):
        made = {"pred": volumes[n], "pred_off": volumes[1], "pred_swapped": volumes[1 - n]}
        made = {key: torch.from_numpy(volume[None].copy()) for key, volume in made.items()}
        knees.append([{"readings": vectors[0], "other": vectors[1]}, made])

    def step(engine, knee):
        engine.state.batch = [knee[0]]
        return [knee[1]]

    engine = Engine(step)
    report = FindingsReport(methods=names, segment=lambda volume: sound()[1], given={"pred_swapped": "other"})
    report.attach(engine)
    section = engine.run(knees).report_sections["findings"]
    json.dumps(section, allow_nan=False)
    rows = {row[1]: row[2:] for row in section["rows"] if row[0] == "cyst"}
    assert rows == {
        "readings on": [1, 1.0, 3, 0.0, 0, 0],
        "off": [1, 0.0, 3, 0.0, 0, 0],
        "exchanged": [1, 1.0, 3, 0.0, 0, 0],
    }
    assert [row[6] for row in section["rows"] if row[0] == "attrition"] == [4, 4, 4]
