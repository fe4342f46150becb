"""Twins of one knee with and without a finding: paired by their names, drawn alike, compared by their difference."""

import json

import numpy as np
import pytest
import torch
from made_up_set import write_set
from test_windows import network

from bundle.data.twins import training_knees
from bundle.engines import DenoisingLoss, LatentDataset, MeanLoss, TwinSampler, WindowDataset
from bundle.engines.twins import twin_error
from bundle.keys import FILM, MRI, PARTICIPANT, READINGS


@pytest.fixture
def volumes():
    """Two knees, then their twins: brighter in one corner, and read so."""
    generator = torch.Generator().manual_seed(0)
    own = [
        {
            FILM: torch.rand(1, 16, 16, generator=generator) * 2 - 1,
            MRI: torch.rand(1, 16, 16, 6, generator=generator) * 2 - 1,
            READINGS: torch.eye(66)[knee],
        }
        for knee in range(2)
    ]
    twins = [{**item, MRI: item[MRI].clone(), READINGS: torch.eye(66)[9]} for item in own]
    for item in twins:
        item[MRI][:, :8, :8] = 1.0
    return [*own, *twins]


def test_twins_are_found_by_name_whatever_their_order(tmp_path):
    write_set(tmp_path / "a", image_size=16, slices=4)
    write_set(tmp_path / "b", image_size=16, slices=4)
    path = tmp_path / "b" / "dataset.json"
    content = json.loads(path.read_text())
    content["training"] = content["training"][:0:-1]  # one knee fewer, the others backwards
    path.write_text(json.dumps(content))
    knees = training_knees(tmp_path / "a", tmp_path / "b")
    assert [item[PARTICIPANT] for item in knees] == [f"{n:07d}" for n in range(1, 6)] * 2
    assert all("/a/" in item[MRI] for item in knees[:5])
    assert all("/b/" in item[MRI] for item in knees[5:])
    assert len(training_knees(tmp_path / "a")) == 6
    content["training"] = content["test"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="none of its training knees is in"):
        training_knees(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("kind", [LatentDataset, WindowDataset])
def test_twins_differ_in_latent_and_readings_alone(volumes, tmp_path, kind):
    """Noise, time, depth and what the autoencoder's posterior draws are the same; a twin's readings stay."""
    options = {"window": 3, "windows_per_volume": 2} if kind is WindowDataset else {"slices_per_volume": 2}
    data = [{MRI: f"{n}.nii.gz"} for n in range(4)]
    dataset = kind(
        volumes, network(), data=data, folder=str(tmp_path), twins=True, readings_dropout=1.0, seed=3, **options
    )
    dataset.set_epoch(2)
    assert len(dataset) == 8
    for index in range(4):
        own, twin = dataset[index], dataset[index + 4]
        for name in ("noise", "time", "depth"):
            assert torch.equal(own[name], twin[name])
        assert not torch.equal(own["latent"], twin["latent"])
        assert not own[READINGS].any()
        assert torch.equal(twin[READINGS], torch.eye(66)[9])
    assert not torch.equal(dataset[0]["noise"], dataset[1]["noise"])


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_twin_follows_its_knee_on_every_rank(replicas):
    seen = []
    for rank in range(replicas):
        sampler = TwinSampler(range(12), twins=True, num_replicas=replicas, rank=rank, seed=5)
        sampler.set_epoch(1)
        order = list(sampler)
        assert len(sampler) == len(order) == 12 // replicas
        assert all(b == a + 6 for a, b in zip(order[::2], order[1::2], strict=True))
        seen += order
    assert sorted(seen) == list(range(12))
    alone = TwinSampler(range(12), twins=False, num_replicas=1, rank=0, seed=5)
    assert list(alone) == list(torch.utils.data.DistributedSampler(range(12), num_replicas=1, rank=0, seed=5))


def test_error_of_the_difference_sees_the_finding_alone():
    """What is wrong with both alike counts nothing; a difference that is missed counts by its square."""
    rng = np.random.default_rng(0)
    knee = torch.from_numpy(rng.normal(size=(2, 1, 3, 4)))
    change = torch.zeros(2, 1, 3, 4)
    change[:, 0, 0, 0] = 2.0
    # two knees of two slices each: knee, twin, knee, twin
    target = torch.cat([knee, knee + change, knee, knee + change])
    assert twin_error(target + 7.0, target, slices=2) == pytest.approx(0.0)
    missed = torch.cat([knee, knee, knee, knee])
    assert twin_error(missed, target, slices=2) == pytest.approx(float(change.square().mean()))
    with pytest.raises(ValueError, match="multiple of 4"):
        twin_error(target[:6], target[:6], slices=2)
    apart = float(change.square().mean())
    denoising = DenoisingLoss(network(), twin_weight=3.0, window=2)(missed, target)
    assert float(denoising) == pytest.approx(float((missed - target).square().mean()) + 3.0 * apart)
    mean = MeanLoss(twin_weight=3.0)((knee, None), (knee + change * torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), None))
    assert float(mean) == pytest.approx(apart / 2 + 3.0 * apart)
    with pytest.raises(ValueError, match="`twin_weight` must not be negative"):
        MeanLoss(twin_weight=-1.0)
