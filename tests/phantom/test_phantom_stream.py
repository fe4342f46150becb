"""The streaming source against the prepared set, and alone."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch.utils.data import DataLoader

from bundle.data.datalist import SPLITS, pairs
from bundle.keys import FILM, MRI
from bundle.phantom import OnTheFly
from bundle.phantom.population import participant_id

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64


@pytest.fixture(scope="module")
def both(prepared):
    """Three participants as the training transforms give them, and as the stream does."""
    parser = ConfigParser({**json.loads((ROOT / "configs/train.json").read_text()), "image_size": SIZE})
    load = [parser.get_parsed_content(f"{name}_preprocessing") for name in ("film", "mri")]
    items = {item["participant"]: item for split in SPLITS for item in pairs(prepared, split)}
    stream = OnTheFly(0, 12, image_size=SIZE)
    found = []
    for index in range(3):
        item = items[participant_id(0, index)]
        loaded = dict(item)
        for transform in load:
            loaded = transform(loaded)
        found.append((item, loaded, stream[index]))
    return found


def similarity(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(np.asarray(a).ravel(), np.asarray(b).ravel())[0, 1])


def test_stream_yields_the_entries_of_the_prepared_set(both):
    for item, _, made in both:
        assert set(item) <= set(made)
        for name in ("participant", "side", "visit", "age", "sex", "bmi", "site"):
            assert made[name] == (pytest.approx(item[name], abs=0.051) if name == "bmi" else item[name])
        assert set(made["readings"]) == set(item["readings"])


def test_stream_and_prepared_mri_agree(both):
    for _, loaded, made in both:
        assert made[MRI].shape == loaded[MRI].shape == (1, SIZE, SIZE, 50)
        torch.testing.assert_close(made[MRI].affine, loaded[MRI].affine, atol=1e-3, rtol=0)
        assert similarity(made[MRI], loaded[MRI]) > 0.999
        assert float((made[MRI] - loaded[MRI]).abs().mean()) < 0.01


def test_stream_and_prepared_film_agree_up_to_the_finder_s_error(both):
    """The finder errs by some millimetres, 2.5 mm a pixel here: the best of small shifts correlates above 0.95."""
    for _, loaded, made in both:
        assert made[FILM].shape == (1, SIZE, SIZE, 1)
        film, cut = np.asarray(made[FILM])[0, :, :, 0], np.asarray(loaded[FILM])[0]
        torch.testing.assert_close(made[FILM].affine, loaded[FILM].affine)
        inner = film[6:-6, 6:-6]
        scores = {
            (row, column): similarity(inner, np.roll(cut, (row, column), (0, 1))[6:-6, 6:-6])
            for row in range(-4, 5)
            for column in range(-4, 5)
        }
        best = max(scores, key=scores.get)
        assert scores[best] > 0.95
        assert max(map(abs, best)) <= 3
        assert abs(float(inner.mean() - cut[6:-6, 6:-6].mean())) < 0.12


def test_workers_and_order_change_nothing():
    stream = OnTheFly(3, 2, image_size=16, slices=4)
    alone = [stream[1], stream[0]][::-1]
    again = pickle.loads(pickle.dumps(stream))
    loaded = list(DataLoader(again, batch_size=None, num_workers=1))
    for one, other in zip(alone, loaded, strict=True):
        for name in (FILM, MRI):
            np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(other[name]))
        assert one["readings"] == other["readings"]
    assert not np.array_equal(np.asarray(alone[0][MRI]), np.asarray(alone[1][MRI]))


def test_first_and_world_and_finder_do_what_they_say():
    plain = OnTheFly(3, 2, image_size=16, slices=4)[1]
    shifted = OnTheFly(3, 1, first=1, image_size=16, slices=4)[0]
    np.testing.assert_array_equal(np.asarray(plain[FILM]), np.asarray(shifted[FILM]))
    missed = OnTheFly(3, 1, first=1, image_size=16, slices=4, finder_mm=8.0)[0]
    np.testing.assert_array_equal(np.asarray(plain[MRI]), np.asarray(missed[MRI]))
    assert not np.array_equal(np.asarray(plain[FILM]), np.asarray(missed[FILM]))
    elsewhere = OnTheFly(3, 1, first=1, image_size=16, slices=4, world="anatomy")[0]
    assert not np.array_equal(np.asarray(plain[MRI]), np.asarray(elsewhere[MRI]))


@pytest.mark.parametrize(
    "wrong", [{"participants": 0}, {"image_size": 8}, {"world": "mars"}, {"finder_mm": -1.0}, {"seed": -1}]
)
def test_arguments_out_of_range_are_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"`{name}`"):
        OnTheFly(**{"seed": 0, "participants": 1} | wrong)


def test_index_beyond_the_end_ends_the_iteration():
    with pytest.raises(IndexError, match="2 knees"):
        OnTheFly(0, 2)[2]
