"""docs/tutorial.md does what it says: its commands, in their order, and the files and numbers it names."""

import json
import re
import subprocess
from pathlib import Path

import nibabel as nib
import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
FOLDER = "data/tutorial"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)


def test_commands_write_to_the_tutorials_folder_alone():
    """So the test can move them elsewhere, and `make clean` removes them."""
    assert len(BLOCKS) >= 9
    for block in BLOCKS:
        assert FOLDER in block
        assert all(path.startswith(f"{FOLDER}/") for path in re.findall(r"data/[\w/.]+", block))


def test_pictures_are_small_and_there():
    pictures = re.findall(r"\]\((figures/[^)]+)\)", TUTORIAL)
    assert len(pictures) == 2
    for picture in pictures:
        assert (ROOT / "docs" / picture).stat().st_size < 300_000


@pytest.mark.parametrize("document", ["docs/tutorial.md", "docs/tracking.md", "SECURITY.md"])
def test_links_lead_somewhere(document):
    path = ROOT / document
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text())
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder that the commands have written, and what each printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    printed = []
    for block in BLOCKS:
        command = block.replace(FOLDER, str(folder))
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        printed.append(done.stdout)
    return folder, printed


@pytest.mark.slow
def test_every_command_works_in_order_and_writes_what_the_text_names(followed):
    folder, printed = followed
    for name in (
        *("volume/001_mri_synthetic.nii.gz", "volume/001_mri_synthetic.json", "volume/001_mri_synthetic.png"),
        *("set/report.html", "set/rejected.csv", "run/model.pt", "run/config.json", "run/losses.csv"),
        *("run/validation.csv", "eval/report.html", "eval/metrics.csv", "table/comparison.html", "run/mlruns.db"),
    ):
        assert (folder / name).is_file(), name
    assert (len(BLOCKS), printed[-1].count(".png")) == (len(printed), 2), "a picture for each of two validations"
    assert json.loads((folder / "volume/001_mri_synthetic.json").read_text())["synthetic"] is True


@pytest.mark.slow
def test_volume_is_as_the_text_says(followed):
    folder, printed = followed
    volume = nib.load(folder / "volume/001_mri_synthetic.nii.gz")
    assert volume.shape == (128, 128, 50)
    looked = next(text for text in printed if text.startswith("shape"))
    for words in ("(128, 128, 50)", "1.25", "1.5", "('I', 'L', 'A')"):
        assert words in looked


@pytest.mark.slow
def test_table_shows_the_blur_of_a_short_training(followed):
    """What the text says of a model that was trained for seconds."""
    table = next(text for text in followed[1] if "n=" in text)
    means = dict(re.findall(r"^(.*?) +rssim +(-?[\d.]+)", table, re.MULTILINE))
    assert float(means["Tutorial model"]) < float(means["Mean of the training volumes"])
