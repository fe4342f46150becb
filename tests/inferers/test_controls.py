"""Controls and ceilings of an evaluation: samples kept, other films and readings, other knees, the autoencoder."""

import pytest
import torch
from monai.data import Dataset, MetaTensor

from bundle.inferers import AddControld, AddOtherKneed, AddReconstructiond, SplitSamplesd, VolumeInferer
from bundle.inferers.controls import other_knees

PEOPLE = ["a", "a", "b", "c", "c", "d"]


class Told(torch.nn.Module):
    """The film's value, 10 times the reading, 100 times the covariate and the sample's number, in two slices."""

    def forward(self, film, readings=None, *, covariates=None, sample=0, **options):
        assert not self.training
        volume = film[..., None].repeat(1, 1, 1, 1, 2) + sample
        for value, factor in ((readings, 10), (covariates, 100)):
            volume = volume + (0 if value is None else factor * value[:, :1, None, None, None])
        return volume


def knee(index):
    grade = index % 3
    return {
        "image": torch.full((1, 3, 4), float(index)),
        "readings": torch.tensor([float(grade)]),
        "covariates": torch.tensor([float(index)]),
        "participant": PEOPLE[index],
        "side": "RL"[index % 2],
        "visit": "00m",
    }


def dataset():
    data = [{"index": n, "participant": PEOPLE[n], "side": "RL"[n % 2], "visit": "00m"} for n in range(6)]
    data = [item | {"readings": {"XRKL": n % 3}} for n, item in enumerate(data)]
    return Dataset(data, transform=lambda item: knee(item["index"]))


def control(**options):
    return AddControld(Told().train(), inferer=VolumeInferer(), dataset=dataset(), key="pred_control", **options)


def test_samples_are_kept_as_channels_and_taken_apart():
    films = torch.rand(2, 1, 3, 4)
    network = Told().eval()
    kept = VolumeInferer(samples=3, keep_samples=True)(films, network)
    assert kept.shape == (2, 3, 3, 4, 2)
    item = SplitSamplesd()({"pred": kept[1], "side": "R"})
    assert item["pred_samples"].shape == (3, 1, 3, 4, 2)
    torch.testing.assert_close(item["pred"], VolumeInferer(samples=3)(films, network)[1])
    running = VolumeInferer(samples=3)(films, network)
    assert running.dtype == films.dtype
    torch.testing.assert_close(running, kept.mean(1, keepdim=True), atol=1e-6, rtol=0)
    assert torch.equal(item["pred_sample"], VolumeInferer()(films, network)[1])
    assert "pred_sample" not in SplitSamplesd(sample=None)({"pred": kept[1]})
    with pytest.raises(ValueError, match="keep_samples"):
        SplitSamplesd()({"pred": kept})


@pytest.mark.parametrize("seed", range(8))
def test_every_knee_gets_one_of_another_participant_and_each_once(seed):
    given = other_knees(PEOPLE, seed=seed)
    assert sorted(given) == list(range(6))
    assert all(PEOPLE[other] != PEOPLE[knee] for knee, other in enumerate(given))
    assert given.tolist() == other_knees(PEOPLE, seed=seed).tolist()


def test_other_knees_depend_on_the_seed_and_need_other_people():
    assert len({tuple(other_knees(PEOPLE, seed=seed)) for seed in range(8)}) > 1
    assert other_knees(["a", "a", "b", "b"]).tolist() in ([2, 3, 0, 1], [3, 2, 1, 0], [2, 3, 1, 0], [3, 2, 0, 1])
    with pytest.raises(ValueError, match="2 of 3 knees"):
        other_knees(["a", "a", "b"])


def test_shuffled_film_comes_with_the_knees_own_readings_and_covariates():
    """Film + 10 readings + 100 covariates: only the first part is another knee's."""
    given = other_knees(PEOPLE)
    step = control(film="other")
    for index in range(6):
        volume = step(knee(index))["pred_control"]
        assert volume.shape == (1, 3, 4, 2)
        assert volume.unique().tolist() == [given[index] + 10 * (index % 3) + 100 * index]
    assert step.network.training


def test_readings_are_withheld_or_anothers_that_differ():
    for index in range(6):
        assert control(readings="none")(knee(index))["pred_control"].unique().tolist() == [101 * index]
        told = control(readings="other")(knee(index))["pred_control"].unique().item() - 101 * index
        assert told in {0, 10, 20} - {10 * (index % 3)}


def test_control_is_the_mean_of_as_many_samples_as_the_model():
    step = AddControld(
        Told(), inferer=VolumeInferer(samples=3, keep_samples=True), dataset=dataset(), key="x", readings="none"
    )
    assert step(knee(0))["x"].unique().tolist() == [1.0]  # samples 0, 1, 2


def test_impossible_controls_are_refused():
    with pytest.raises(ValueError, match="own"):
        control()
    with pytest.raises(ValueError, match="`film` must be one of own, other"):
        control(film="none")
    with pytest.raises(ValueError, match="knee z R 00m"):
        control(film="other")({**knee(0), "participant": "z"})


def test_other_knee_is_the_mean_of_other_participants_volumes():
    volumes = Dataset([{"participant": who, "mri": n} for n, who in enumerate("aabc")], transform=_as_volume)
    item = {"participant": "a", "side": "R", "visit": "00m"}
    one = AddOtherKneed(volumes, seed=3)
    assert one(item)["other_knee"].unique().item() in (2, 3)
    assert torch.equal(one(item)["other_knee"], one(item)["other_knee"])
    assert AddOtherKneed(volumes, samples=2)(item)["other_knee"].unique().tolist() == [2.5]
    with pytest.raises(ValueError, match="2 knees"):
        AddOtherKneed(volumes, samples=3)(item)


def _as_volume(item):
    return item | {"mri": MetaTensor(torch.full((1, 2, 2, 2), float(item["mri"])))}


def test_reconstruction_is_each_slices_own(small_network):
    """Encoded and decoded one by one, by the autoencoder itself; more slices than a batch."""
    volume = MetaTensor(torch.rand(1, 16, 16, 6) * 2 - 1)
    small_network.scale_factor.fill_(3.0)
    found = AddReconstructiond(small_network)({"mri": volume})["autoencoder"]
    with torch.no_grad():
        for place in range(6):
            image = volume.as_tensor()[None, :, :, :, place]
            expected = small_network.autoencoder.decode(small_network.autoencoder.encode(image)[0]).clamp(-1, 1)
            torch.testing.assert_close(found[..., place], expected[0], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="`mri`"):
        AddReconstructiond(small_network)({"mri": "volume.nii.gz"})
