"""Self-check: an outline agrees with its own film, not with another's, wherever the joint centre was found."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine

from bundle.data.datalist import SPLITS, pairs
from bundle.handlers.self_check import SelfCheckHandler, SelfCheckReport
from bundle.metrics.self_check import SHIFT_MM, SelfCheck, bone_outlines, film_edges, mismatch_auc, outline_agreement

SIZE, SLICES = 64, 10


def knee(width, *, shift=0, gap=3):
    """Two blocks of bone with a gap between them, and the film of their lengths: `width` pixels of 2.5 mm across."""
    labels = np.zeros((SIZE, SIZE, SLICES), np.uint8)
    middle = SIZE // 2
    columns = slice(middle - width // 2, middle + width - width // 2)
    labels[4 : middle - gap, columns] = 1
    labels[middle + gap : -4, columns] = 2
    film = np.roll((labels > 0).sum(axis=2).astype(float), (shift, -shift), axis=(0, 1))
    return labels, film


def agreement(labels, film):
    return outline_agreement(bone_outlines(labels), film_edges(film))


def test_own_film_agrees_and_anothers_does_not():
    labels, film = knee(26)
    _, other = knee(34)
    assert agreement(labels, film).score > 0.85
    assert agreement(labels, other).score < agreement(labels, film).score - 0.2


def test_gain_offset_and_noise_change_little_and_the_negative_all():
    labels, film = knee(26)
    score = agreement(labels, film).score
    assert agreement(labels, 40 * film - 7).score == pytest.approx(score, abs=1e-6)
    noisy = film + np.random.default_rng(0).normal(0, 0.3, film.shape)
    assert agreement(labels, noisy).score > score - 0.2
    assert agreement(labels, -film).score < 0.2


def test_shift_of_the_joint_centre_is_found():
    """One pixel of 2.5 mm down and to the left."""
    labels, film = knee(26, shift=1)
    found, unmoved = agreement(labels, film), agreement(*knee(26))
    assert found.down_mm - unmoved.down_mm == pytest.approx(2.5)
    assert found.across_mm - unmoved.across_mm == pytest.approx(-2.5)
    assert max(abs(found.down_mm), abs(found.across_mm)) <= SHIFT_MM


def test_one_mask_is_parted_at_the_middle_row():
    labels, film = knee(26)
    assert agreement(labels > 0, film) == agreement(labels, film)


def test_scores_are_counted_where_there_is_no_bone():
    labels, film = knee(26)
    volumes = torch.from_numpy(np.stack([labels, 0 * labels])[:, None].astype(np.float32))
    films = torch.from_numpy(np.stack([film, film])[:, None])
    metric = SelfCheck(lambda volume: volume)
    scores = metric(volumes, films=films)
    assert scores[0, 0] == pytest.approx(agreement(labels, film).score)
    assert scores[1, 0].isnan()
    assert metric.left_out().tolist() == [[0], [1]]
    with pytest.raises(ValueError, match="`films`"):
        metric(volumes, films=films[:1])


def test_flat_and_wrong_films_are_refused():
    with pytest.raises(ValueError, match="contrast"):
        film_edges(np.ones((8, 8)))
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        film_edges(np.ones((2, 8, 8)))
    with pytest.raises(ValueError, match="finite"):
        film_edges(np.full((8, 8), np.nan))


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [([3, 4], [[1, 2], [0, 1]], 1.0), ([1, 1], [[2], [0]], 0.5), ([2], [[2]], 0.5), ([0.0], [[]], np.nan)],
)
def test_auc_is_counted_by_hand(own, others, expected):
    assert mismatch_auc(own, others) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("mean_collapsed", [False, True])
def test_section_tells_volumes_that_carry_the_knee_from_one_volume_for_all(mean_collapsed):
    """Perfect volumes flag every other film; one and the same volume for every film flags none."""
    knees = [knee(width) for width in (20, 26, 32, 38)]
    items = [
        {
            "pred": torch.from_numpy(knees[1 if mean_collapsed else n][0][None].astype(np.float32)),
            "image": torch.from_numpy(film[None].astype(np.float32)),
        }
        for n, (_, film) in enumerate(knees)
    ]
    engine = Engine(lambda _, item: [item])
    SelfCheckHandler(segment=lambda volume: volume).attach(engine, "pred_self_check")
    SelfCheckReport(methods={"pred": "Model"}, segment=lambda volume: volume).attach(engine)
    state = engine.run(items)
    section = state.report_sections["self_check"]
    json.dumps(section, allow_nan=False)
    row = dict(zip(section["columns"], section["rows"][0], strict=True))
    assert (row["method"], row["volumes"], row["without bone"]) == ("Model", 4, 0)
    assert row["own film"] == pytest.approx(state.metrics["pred_self_check"])
    assert row["AUC"] == pytest.approx(0.5, abs=0.2) if mean_collapsed else row["AUC"] == 1


def test_real_phantom_volumes_know_their_own_films(phantom_oai, prepared):
    """The truth's bones of the prepared knees: agreement is higher with the own film in most comparisons.

    Twelve people at 64 x 64, of whom few have every class of error; with 16 at 128 x 128 it is 92 % (docs/metrics.md).
    """
    edges, outlines = [], []
    for split in SPLITS:
        for item in pairs(prepared, split):
            film = nib.load(item["image"]).get_fdata()[..., 0]
            truth = phantom_oai / "truth" / f"{item['participant']}_{item['side']}_labels.nii.gz"
            labels = nib.load(truth).get_fdata()[:, :, 13:63]
            bones = np.where(np.isin(labels, (1, 4)), 1, np.where(np.isin(labels, (2, 3)), 2, 0))
            edges.append(film_edges(film))
            outlines.append(bone_outlines(bones))
    scores = np.array([[outline_agreement(outline, film).score for film in edges] for outline in outlines])
    own = np.diag(scores)
    others = [np.delete(row, index) for index, row in enumerate(scores)]
    assert mismatch_auc(own, others) > 0.75
    assert np.mean([(value > row).mean() for value, row in zip(own, others, strict=True)]) > 0.8
