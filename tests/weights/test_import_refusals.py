"""What an import refuses: hostile, damaged, renamed and wrong files, none of which leaves anything behind."""

import io
import os
import pickle
import runpy
import subprocess
import sys
import zipfile
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import fabricate_ldm as ldm
import numpy as np
import pytest
import torch

from bundle.weights import import_weights
from bundle.weights.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def state():
    return ldm.zero123()[0]


def refused(tmp_path, state, match, kind="zero123"):
    torch.save({"state_dict": state}, tmp_path / "c.ckpt")
    with pytest.raises(ValueError, match=match):
        import_weights(tmp_path / "c.ckpt", tmp_path / "out" / "o.pt", kind=kind, tower_heads=4)
    assert not list(tmp_path.glob("out/*"))


class Trap:
    """Would leave a file behind if anything of it were executed."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def through_getattr(marker):
    return Trap(getattr, Path(marker), "touch")


HOSTILE = {
    "open": lambda marker: Trap(open, str(marker), "w"),
    "eval": lambda marker: Trap(eval, f"open({str(marker)!r}, 'w')"),
    "touch": lambda marker: Trap(Path.touch, Path(marker)),
    "getattr": through_getattr,
    "process": lambda marker: Trap(subprocess.call, ["touch", str(marker)]),
    "system": lambda marker: Trap(os.system, f"touch {marker}"),
    "class": lambda marker: Trap(subprocess.Popen, ["touch", str(marker)]),
    "import": lambda marker: Trap(__import__, "antigravity"),
    "load": lambda marker: Trap(torch.load, str(marker)),
    "hub": lambda marker: Trap(torch.hub.load, str(marker), "model"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["extras", "state_dict", "top"])
def test_a_hostile_checkpoint_is_refused_and_nothing_runs(tmp_path, name, place):
    trap, marker = HOSTILE[name](tmp_path / "ran"), tmp_path / "ran"
    content = {
        "extras": {"state_dict": {"a": torch.zeros(2)}, "callbacks": {"x": trap}},
        "state_dict": {"state_dict": {"a": trap}},
        "top": trap,
    }[place]
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="refused: it names `"):
        Checkpoint(tmp_path / "evil.ckpt")
    assert not marker.exists()


def test_the_trap_works_where_a_file_is_loaded_carelessly(tmp_path):
    """Otherwise the test above would prove nothing."""
    torch.save({"a": HOSTILE["open"](tmp_path / "ran")}, tmp_path / "evil.ckpt")
    torch.load(tmp_path / "evil.ckpt", weights_only=False)
    assert (tmp_path / "ran").exists()


class Extra:
    """Of a library that is not installed here."""

    def __init__(self):
        self.content = {"lr": 1.0}


@pytest.mark.parametrize("package", ["omegaconf", "a_laboratory"])
def test_a_trainings_extras_are_read_past_without_importing_their_classes(tmp_path, state, monkeypatch, package):
    """Lightning stores omegaconf objects, callbacks by their class and optimiser states; no library is imported."""
    module = type(sys)(f"{package}.inner")
    Extra.__module__, Extra.__qualname__ = f"{package}.inner", "Extra"
    module.Extra = Extra
    monkeypatch.setitem(sys.modules, package, type(sys)(package))
    monkeypatch.setitem(sys.modules, f"{package}.inner", module)
    optimiser = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    content = {
        "epoch": 1,
        "hyper_parameters": Extra(),
        "optimizer_states": [optimiser],
        "state_dict": OrderedDict(state),
    }
    content["callbacks"] = {Extra: {"best": torch.tensor(1.0), "when": datetime(2023, 3, 20), "path": Path("last")}}
    content["extras"] = [np.int64(3), np.arange(3.0), torch.float16, torch.device("cpu"), {1, 2}, SimpleNamespace(a=1)]
    torch.save(content, tmp_path / "c.ckpt")
    monkeypatch.undo()
    checkpoint = Checkpoint(tmp_path / "c.ckpt")
    assert set(checkpoint) == set(state)
    assert package not in sys.modules
    name = "model.diffusion_model.out.2.weight"
    assert torch.equal(checkpoint[name], state[name])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("model.diffusion_model.out.0.bias"), "model_ema.diffusion_modelout0bias"),
        (lambda s: s.pop("model_ema.diffusion_modelout0bias"), "`model_ema.diffusion_modelout0bias`.*is missing"),
        (
            lambda s: s.update({"first_stage_model.extra": torch.zeros(1)}),
            "`first_stage_model.extra` has no place in the autoencoder",
        ),
        (lambda s: s.update({"surprise": torch.zeros(1)}), "`surprise` is not a key"),
        (lambda s: s.update({"cc_projection.bias": torch.full((24,), torch.nan)}), "`cc_projection.bias` .*not finite"),
        (lambda s: s.pop("first_stage_model.decoder.mid.attn_1.q.bias"), r"fills `decoder.blocks.2.attn.to_q.bias`"),
        (
            lambda s: s.update({"first_stage_model.encoder.norm_out.weight": torch.zeros(5)}),
            r"`first_stage_model.encoder.norm_out.weight` has shape \(5,\)",
        ),
        (lambda s: s.update({"cc_projection.weight": torch.zeros(24, 20)}), r"20 \+ 4 columns"),
        (lambda s: s.pop("cond_stage_model.model.visual.proj"), "model.visual.proj` is missing"),
        (
            lambda s: s.update({"cond_stage_model.model.visual.prej": s.pop("cond_stage_model.model.visual.proj")}),
            "visual.proj",
        ),
    ],
)
def test_the_first_key_that_does_not_fit_is_named(tmp_path, state, change, match):
    changed = dict(state)
    change(changed)
    refused(tmp_path, changed, match)


def test_without_averages_the_raw_weights_must_be_asked_for(tmp_path, state):
    raw = {name: tensor for name, tensor in state.items() if not name.startswith("model_ema.")}
    refused(tmp_path, raw, "--raw")


@pytest.mark.parametrize("kind", ["stable-diffusion", "diffusers", "monai-generative", "open-clip"])
def test_a_checkpoint_of_another_kind_is_refused(tmp_path, state, kind):
    """Stable Diffusion would drop Zero-1-to-3's `cc_projection` without a word, were it not strict."""
    refused(tmp_path, state, "not a key|neither", kind=kind)


def test_damaged_and_foreign_files_say_so(tmp_path, state):
    torch.save({"state_dict": state}, tmp_path / "c.ckpt")
    whole = (tmp_path / "c.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.ckpt").write_text("<html>not found</html>")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    with (tmp_path / "pickle.ckpt").open("wb") as file:
        pickle.dump({"a": HOSTILE["open"](tmp_path / "ran")}, file)
    (tmp_path / "cut.safetensors").write_bytes((1000).to_bytes(8, "little") + b'{"a":')
    for name in ("cut.ckpt", "text.ckpt", "empty.ckpt", "pickle.ckpt", "cut.safetensors"):
        with pytest.raises(ValueError, match=r"refused|neither a safetensors|not a whole"):
            import_weights(tmp_path / name, tmp_path / "o.pt", kind="zero123")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(FileNotFoundError, match="no such file"):
        import_weights(tmp_path / "none.ckpt", tmp_path / "o.pt", kind="zero123")
    assert not (tmp_path / "o.pt").exists()


def test_a_changed_byte_and_a_tensor_beyond_its_storage_are_found(tmp_path):
    torch.save({"a": torch.arange(1000.0), "b": torch.zeros(4)}, tmp_path / "c.pt")
    data = bytearray((tmp_path / "c.pt").read_bytes())
    place = data.find(torch.arange(500.0, 503.0).numpy().tobytes())
    data[place] ^= 1
    (tmp_path / "flipped.pt").write_bytes(data)
    with pytest.raises(ValueError, match="`a` cannot be read, the file is damaged"):
        Checkpoint(tmp_path / "flipped.pt")["a"]
    with zipfile.ZipFile(tmp_path / "c.pt") as old, zipfile.ZipFile(tmp_path / "short.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[:8] if name.endswith("data/1") else old.read(name))
    with pytest.raises(ValueError, match="`b` cannot be read"):
        Checkpoint(tmp_path / "short.pt")["b"]


def test_torchscript_and_compressed_archives_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(ValueError, match="TorchScript"):
        Checkpoint(tmp_path / "script.pt")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
    (tmp_path / "bomb.pt").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="compressed"):
        Checkpoint(tmp_path / "bomb.pt")


def test_views_of_one_storage_come_out_as_they_were(tmp_path):
    base = torch.arange(12.0)
    tensors = {"a": base[2:8].view(2, 3), "b": base.view(3, 4).T, "c": base.half(), "d": torch.tensor(3)}
    torch.save(tensors, tmp_path / "c.pt")
    checkpoint = Checkpoint(tmp_path / "c.pt")
    for name, tensor in tensors.items():
        assert torch.equal(checkpoint[name], tensor), name
        assert checkpoint[name].dtype == tensor.dtype


def test_the_command_writes_the_file_and_names_errors_in_one_line(tmp_path, state, monkeypatch, capsys):
    torch.save({"state_dict": state}, tmp_path / "c.ckpt")
    main = runpy.run_path(str(ROOT / "scripts" / "import_weights.py"))["main"]

    def run(kind, out):
        options = ["--kind", kind, "--out", str(tmp_path / out), "--tower-heads", "4"]
        monkeypatch.setattr(sys, "argv", ["import_weights.py", str(tmp_path / "c.ckpt"), *options])
        return main(), *capsys.readouterr()

    code, said, told = run("zero123", "o.pt")
    assert (code, said.strip()) == (0, str(tmp_path / "o.pt"))
    assert "dropped: CLIP's text tower" in told
    code, said, told = run("open-clip", "p.pt")
    assert (code, said) == (1, "")
    assert told.startswith("error: ")
    assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "p.pt").exists()
