"""What is made already and what is not."""

import json

import pytest

from bundle.writers import finished
from bundle.writers.whole import whole_set

SETTINGS = {"seed": 0, "depth": (0.0, 0.5)}


def write(folder, **changes):
    content = {"film_sha256": "f", "settings": SETTINGS, "files": ["x_mri_synthetic.nii.gz"]} | changes
    (folder / "x_mri_synthetic.nii.gz").write_text("volume")
    (folder / "x_mri_synthetic.json").write_text(json.dumps(content))


def ask(folder, **changes):
    return finished(folder, "x", **({"film_sha256": "f", "settings": SETTINGS} | changes))


def test_whole_outputs_of_the_same_film_and_settings_are_finished(tmp_path):
    assert ask(tmp_path) is None
    write(tmp_path)
    files, record = ask(tmp_path)
    assert files == [tmp_path / "x_mri_synthetic.nii.gz"]
    assert record["film_sha256"] == "f"


def test_other_settings_missing_files_and_damaged_sidecars_are_made_again(tmp_path):
    write(tmp_path)
    assert ask(tmp_path, settings=SETTINGS | {"seed": 1}) is None
    (tmp_path / "x_mri_synthetic.nii.gz").unlink()
    assert ask(tmp_path) is None
    for text in ("", "[]", '{"film_sha256": "f"', '{"film_sha256": "f", "files": 3}'):
        (tmp_path / "x_mri_synthetic.json").write_text(text)
        assert ask(tmp_path) is None


def test_outputs_of_another_film_are_not_replaced(tmp_path):
    write(tmp_path, film_sha256="other")
    with pytest.raises(ValueError, match="--overwrite"):
        ask(tmp_path)


def fail(folder):
    with whole_set(folder, last="s.json") as unfinished:
        (unfinished / "s.json").write_text("half")
        raise KeyboardInterrupt


def test_a_set_appears_together_with_its_last_file_at_the_end(tmp_path):
    folder = tmp_path / "new" / "out"
    with whole_set(folder, last="s.json") as unfinished:
        (unfinished / "s.json").write_text("1")
        (unfinished / "d").mkdir()
        (unfinished / "d" / "1").write_text("1")
        assert not (folder / "s.json").exists()
    with pytest.raises(KeyboardInterrupt):
        fail(folder)
    assert (folder / "s.json").read_text() == "1"
    with whole_set(folder, last="s.json") as unfinished:
        (unfinished / "d").mkdir()
        (unfinished / "s.json").write_text("2")
    assert sorted(path.name for path in folder.rglob("*")) == ["d", "s.json"]


def test_nothing_stays_of_a_first_set_that_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    with whole_set(tmp_path, last="a") as unfinished:
        (unfinished / "a").write_text("")
        name = unfinished.name.rpartition("-")[0]
        left, living, elsewhere = f"{name}-999999999", f"{name}-1", ".unfinished-elsewhere-999999999"
        for folder in (left, living, elsewhere):
            (tmp_path / folder).mkdir()
    with whole_set(tmp_path, last="a") as unfinished:
        (unfinished / "a").write_text("")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living, elsewhere, "a"])
