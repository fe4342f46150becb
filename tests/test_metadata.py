"""`configs/metadata.json`: valid, true to the locks, readable by MONAI."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle.scripts import _get_net_io_info

ROOT = Path(__file__).resolve().parents[1]
METADATA = ROOT / "configs/metadata.json"
SCHEMA = ROOT / "tests/data/meta_schema_20240725.json"


@pytest.fixture
def metadata():
    return json.loads(METADATA.read_text())


def locked_versions(lock: str) -> dict[str, set[str]]:
    """Package to the versions a lock pins it at; more than one where they depend on the Python version."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    return pins


def verify(metadata_file: Path, folder: Path) -> subprocess.CompletedProcess:
    """MONAI's own check, as the zoo calls it; with the schema in place nothing is downloaded."""
    schema = folder / "eval/schema.json"
    schema.parent.mkdir()
    shutil.copyfile(SCHEMA, schema)
    program = [sys.executable, "-m", "monai.bundle", "verify_metadata"]
    # A proxy that is not there: whoever downloads, fails.
    environment = {"PATH": "", "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    arguments = ["--meta_file", str(metadata_file), "--filepath", str(schema)]
    return subprocess.run([*program, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT)


def test_verify_metadata_passes_offline(tmp_path):
    result = verify(METADATA, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "metadata is verified with no error" in result.stdout + result.stderr


def test_verify_metadata_refuses_a_missing_task(tmp_path, metadata):
    del metadata["task"]
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps(metadata))
    result = verify(broken, tmp_path)
    assert result.returncode != 0
    assert "'task' is a required property" in result.stderr


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], 1),
        (["required_packages_version", "einops"], ">=0.8"),
        (["network_data_format", "inputs", "image", "format"], "radiograph"),
        (["network_data_format", "outputs", "pred", "num_channels"], "1"),
        (["network_data_format", "inputs"], {}),
    ],
)
def test_schema_refuses(metadata, path, value):
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(metadata, schema)
    holder = metadata
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(metadata, schema)


def test_monai_reads_the_shapes(metadata):
    """One film of 128 x 128 in, one volume of 50 slices on the same rows and columns out."""
    parser = ConfigParser()
    parser.read_meta(str(METADATA))
    channels, shape, dtype, channels_out, dtype_out = _get_net_io_info(parser)
    assert (channels, shape, dtype) == (1, (128, 128), torch.float32)
    assert (channels_out, dtype_out) == (1, torch.float32)
    assert metadata["network_data_format"]["outputs"]["pred"]["spatial_shape"] == [*shape, 50]


def test_versions_are_those_of_the_lock(metadata):
    pins = locked_versions("requirements/run.txt")
    stated = {"monai": metadata["monai_version"], "torch": metadata["pytorch_version"]}
    stated |= {"numpy": metadata["numpy_version"]}
    stated |= metadata["required_packages_version"]
    wrong = {name: version for name, version in stated.items() if version not in pins.get(name, set())}
    assert not wrong, f"{wrong} in configs/metadata.json, but {[pins.get(name) for name in wrong]} in the lock"


def test_every_direct_requirement_is_stated(metadata):
    lines = (ROOT / "requirements/run.in").read_text().splitlines()
    direct = {re.match(r"[\w-]+", line)[0].replace("_", "-") for line in lines if line and line[0] != "#"}
    assert direct == {"monai", "torch", "numpy", *metadata["required_packages_version"]}


def test_developing_lock_holds_every_pin_of_the_running_one():
    """So `.venv` with the developers' lock serves both (requirements/install.sh relies on it)."""
    run, dev = locked_versions("requirements/run.txt"), locked_versions("requirements/dev.txt")
    assert {name: versions for name, versions in run.items() if dev.get(name) != versions} == {}


def test_lock_of_monai_label_differs_where_it_must_and_nowhere_else():
    """MONAI Label needs numpy 1 and pydicom 2; torch and MONAI, which make the numbers, are the running lock's."""
    run, label = locked_versions("requirements/run.txt"), locked_versions("requirements/label.txt")
    for name in ("torch", "monai", "pytorch-ignite", "open-clip-torch", "einops", "nibabel", "scikit-image"):
        assert label[name] == run[name]
    assert {version.split(".")[0] for version in label["numpy"]} == {"1"}
    assert {version.split(".")[0] for version in label["pydicom"]} == {"2"}


def test_nothing_refers_to_what_a_request_to_monai_label_sets():
    """MONAI Label writes these into the configuration; whatever referred to one would evaluate a stranger's text."""
    text = (ROOT / "configs/inference.json").read_text()
    shown = json.loads(text)["displayable_configs"]
    assert shown == {"result_extension": ".nii.gz", "result_dtype": "float32"}
    assert not re.search(r"[@%](displayable_configs|result_extension|result_dtype)", text)
