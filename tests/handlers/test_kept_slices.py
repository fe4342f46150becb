"""What an evaluation keeps for pictures: the same knee of each grade always, and a finding told and not told."""

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator

from bundle.handlers import FeatureSwitch, KeepSlices
from bundle.handlers.feature_switch import ADDED
from bundle.inferers import VolumeInferer
from bundle.readings import grade_table
from bundle.reports.kept import read_kept

TABLE = grade_table("oai")
SIZE, SLICES = 8, 5
FINDINGS = ("chondrocalcinosis", "attrition", "cyst")


def knee(name, kl_grade, side="R", **readings):
    """A knee whose film is flat at a tenth of its number, and whose real slices are 0, 0.1, ... in [-1, 1]."""
    depth = torch.arange(SLICES) / 10
    return {
        "image": MetaTensor(torch.full((1, SIZE, SIZE), int(name) / 10), meta={"mirrored": side == "L"}),
        "mri": depth.expand(1, SIZE, SIZE, SLICES).clone(),
        "participant": name,
        "side": side,
        "visit": "00m",
        "readings": torch.tensor(TABLE.encode({"XRKL": kl_grade, **readings})),
    }


class Told(torch.nn.Module):
    """Draws medial chondrocalcinosis into slice 3, stronger the higher its grade, over the film."""

    def __init__(self, reads=True):
        super().__init__()
        self.reads, self.calls = reads, 0

    def forward(self, film, readings=None, slices=None, steps=None, seed=0, sample=0):
        self.calls += 1
        volume = film[..., None].repeat(1, 1, 1, 1, SLICES)
        if self.reads:
            place = sum(top + 1 for name, top in list(TABLE.highest.items())[: list(TABLE.highest).index("XRCHM")])
            volume[..., 3] += 0.4 * readings[0, place + 1]
        return volume


def pair(batch, device=None, non_blocking=False, **options):
    return batch["image"], batch["mri"], (), {"readings": batch["readings"]}


def evaluate(items, network, *handlers):
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=network,
        inferer=VolumeInferer(),
        prepare_batch=pair,
        val_handlers=list(handlers),
    )
    evaluator.run()


def switched(items, folder, *, network=None, findings=FINDINGS):
    network = network or Told()
    evaluate(items, network, FeatureSwitch(network, inferer=VolumeInferer(), output_dir=folder, findings=findings))
    return read_kept(folder / "features.npz"), network


@pytest.mark.parametrize("backwards", [False, True])
def test_of_each_grade_the_first_knee_by_name_is_kept_in_any_order(tmp_path, backwards):
    items = [knee("5", 0), knee("3", 0, side="L"), knee("4", 2), knee("1", 3), knee("6", None)]
    evaluate(items[::-1] if backwards else items, Told(), KeepSlices(tmp_path))
    kept = read_kept(tmp_path / "slices.npz")
    assert {label: of.knee for label, of in kept.items()} == {"G-0": ("3", "L", "00m"), "G-2": ("4", "R", "00m")}
    assert (kept["G-0"].kl_grade, kept["G-0"].mirrored, kept["G-2"].mirrored) == (0, True, False)


def test_the_middle_slice_is_kept_of_all_volumes(tmp_path):
    """Real slice 2 of 5 is 0.2 in [-1, 1], grey 0.6 * 255 = 153; film and model of knee 4 are 0.4, grey 178.5."""
    evaluate([knee("4", 2)], Told(), KeepSlices(tmp_path))
    kept = read_kept(tmp_path / "slices.npz")["G-2"]
    assert kept.depth == 0.5
    assert (np.unique(kept.real), np.unique(kept.film)) == ([153], [178])
    np.testing.assert_array_equal(kept.made["pred"], kept.film)


def test_a_finding_is_told_and_not_told_where_it_shows_most(tmp_path):
    """0.4 more in [-1, 1] is a fifth of 255; the knee is the first of those that have the finding, not of all."""
    kept, _ = switched([knee("1", 0), knee("3", 2, XRCHM=1), knee("2", 2, XRCHM=1)], tmp_path)
    assert list(kept) == ["chondrocalcinosis"], "what changes nothing is absent"
    found = kept["chondrocalcinosis"]
    assert found.knee == ("2", "R", "00m")
    assert found.depth == 0.75
    assert found.remark == ""
    assert np.unique(found.made["on"].astype(int) - found.made["off"]) == [51]
    assert np.unique(found.made["off"]) == np.unique(found.film)


def test_a_finding_that_no_knee_has_is_added_and_said(tmp_path):
    kept, _ = switched([knee("2", 0), knee("1", 2)], tmp_path)
    found = kept["chondrocalcinosis"]
    assert (found.knee[0], found.remark) == ("1", ADDED)
    assert found.made["on"].mean() > found.made["off"].mean()


def test_a_model_that_reads_no_readings_keeps_nothing(tmp_path):
    kept, _ = switched([knee("1", 2, XRCHM=1)], tmp_path, network=Told(reads=False))
    assert kept == {}


def test_nothing_is_synthesised_unless_a_finding_is_asked_for(tmp_path):
    _, network = switched([knee("1", 2, XRCHM=1)], tmp_path, findings=())
    assert network.calls == 1, "the evaluation's own volume"
    assert not (tmp_path / "features.npz").exists()


def test_unknown_findings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="chondrocalcinosis"):
        FeatureSwitch(Told(), inferer=VolumeInferer(), output_dir=tmp_path, findings=["effusion"])
