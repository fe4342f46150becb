"""Weights files: they hold tensors alone, load strictly, and are refused by name."""

import pickle

import pytest
import torch

from bundle.weights import load_weights, read_weights, save_weights
from bundle.writers import file_hash


def test_what_is_saved_is_loaded_to_half_precision(small_network, tmp_path):
    path = save_weights(small_network, tmp_path / "model.pt", trained_on="a test")
    state = read_weights(path)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    before = {name: value.clone() for name, value in small_network.state_dict().items()}
    for parameter in small_network.parameters():
        parameter.data.zero_()
    load_weights(small_network, path)
    for name, value in small_network.named_parameters():
        torch.testing.assert_close(value.data, before[name].half().float(), rtol=0, atol=0)
    assert small_network.provenance() == "a test"
    assert not list(tmp_path.glob(".*"))


def test_averages_replace_parameters(small_network, tmp_path):
    name = "denoiser.unet.conv_in.conv.bias"
    replaced = torch.full_like(small_network.state_dict()[name], 0.25)
    path = save_weights(small_network, tmp_path / "m.pt", trained_on="x", replace={name: replaced})
    torch.testing.assert_close(read_weights(path)[name].float(), replaced)
    with pytest.raises(ValueError, match="nowhere"):
        save_weights(small_network, tmp_path / "m.pt", trained_on="x", replace={"nowhere": replaced})


def test_the_first_misfit_is_named(small_network, tmp_path):
    state = read_weights(save_weights(small_network, tmp_path / "m.pt", trained_on="x"))
    torch.save({k: v for k, v in state.items() if k != "scale_factor"}, tmp_path / "short.pt")
    with pytest.raises(ValueError, match="`scale_factor` is missing in the file"):
        load_weights(small_network, tmp_path / "short.pt")
    torch.save({**state, "denoiser.unet.conv_in.conv.bias": torch.zeros(3)}, tmp_path / "shape.pt")
    with pytest.raises(ValueError, match=r"conv_in.conv.bias` has shape \(3,\)"):
        load_weights(small_network, tmp_path / "shape.pt")


@pytest.mark.parametrize("name", ["grid_description", "grade_description"])
def test_weights_of_another_grid_or_grade_table_are_refused(small_network, tmp_path, name):
    state = read_weights(save_weights(small_network, tmp_path / "m.pt", trained_on="x"))
    state[name] = state[name].clone()
    state[name][0] += 1
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=name):
        load_weights(small_network, tmp_path / "other.pt")


class Trap:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_runs_nothing(small_network, tmp_path):
    with (tmp_path / "evil.pt").open("wb") as file:
        pickle.dump({"a": Trap(tmp_path / "ran")}, file)
    torch.save({"a": Trap(tmp_path / "ran")}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(ValueError, match="not a file of tensors"):
            load_weights(small_network, tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_missing_and_damaged_files_say_so(small_network, tmp_path):
    with pytest.raises(FileNotFoundError, match="make weights"):
        load_weights(small_network, tmp_path / "none.pt")
    path = save_weights(small_network, tmp_path / "m.pt", trained_on="x")
    first = file_hash(path)
    path.write_bytes(path.read_bytes()[:1000])
    assert file_hash(path) != first
    with pytest.raises(ValueError, match="not a file of tensors"):
        load_weights(small_network, path)
