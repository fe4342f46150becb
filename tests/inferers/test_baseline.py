"""A second network's volume beside the model's."""

import pytest
import torch

from bundle.inferers.baseline import AddPredictiond


class FilmPlusReadings(torch.nn.Module):
    def forward(self, film, readings=None):
        assert not self.training
        assert not torch.is_grad_enabled()
        extra = 0 if readings is None else readings.sum()
        return film[..., None].repeat(1, 1, 1, 1, 2) + extra


def test_volume_is_stored_under_the_key_and_nothing_else_changes():
    item = {"image": torch.rand(1, 4, 3), "pred": torch.rand(1, 4, 3, 2), "side": "R"}
    network = FilmPlusReadings().train()
    added = AddPredictiond(network, key="baseline")(item)
    assert set(added) == {*item, "baseline"}
    assert torch.equal(added["baseline"], item["image"][..., None].repeat(1, 1, 1, 2))
    assert network.training
    assert "baseline" not in item


def test_readings_reach_the_network_as_a_batch_of_one():
    item = {"image": torch.zeros(1, 4, 3), "readings": torch.ones(5)}
    assert AddPredictiond(FilmPlusReadings(), key="baseline")(item)["baseline"].eq(5).all()
    item["readings"] = {"XRKL": 2}
    assert AddPredictiond(FilmPlusReadings(), key="baseline")(item)["baseline"].eq(0).all()


def test_items_without_a_film_are_refused():
    with pytest.raises(KeyError, match="image"):
        AddPredictiond(FilmPlusReadings(), key="baseline")({"pred": torch.zeros(1)})
