"""docs/configs.md: it is what its script writes today, and an id without a meaning fails."""

import json
from pathlib import Path

import pytest

from bundle.reports.config_page import config_page, read_configs, shown

ROOT = Path(__file__).resolve().parents[2]
MEANINGS = ROOT / "docs/config_ids.json"


def test_page_is_up_to_date():
    """If this fails: `.venv/bin/python scripts/document_configs.py`."""
    assert (ROOT / "docs/configs.md").read_text() == config_page(ROOT / "configs", MEANINGS)


def test_every_config_is_on_the_page():
    names = {name for name, _ in read_configs(ROOT / "configs")}
    assert names == {
        path.relative_to(ROOT / "configs").as_posix()
        for path in (ROOT / "configs").rglob("*.json")
        if path.name != "metadata.json"
    }


def test_a_meaning_is_one_sentence():
    for entry, meaning in json.loads(MEANINGS.read_text()).items():
        assert meaning.endswith("."), entry
        assert "\n" not in meaning
        assert "|" not in meaning, "it stands in a table"


@pytest.fixture
def made_up(tmp_path):
    """Write one config and its meanings; give the page."""

    def build(config, meanings):
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "made.json").write_text(json.dumps(config))
        (tmp_path / "meanings.json").write_text(json.dumps(meanings))
        return config_page(tmp_path / "configs", tmp_path / "meanings.json")

    return build


def test_id_without_meaning_meaning_without_id_and_config_without_purpose_are_named(made_up):
    with pytest.raises(ValueError, match="`novel` has no meaning") as error:
        made_up({"novel": 1}, {"gone": "Gone."})
    assert "`gone` has a meaning and is in no config" in str(error.value)
    assert "made.json: no `_desc_`" in str(error.value)


def test_a_configs_own_meaning_goes_before_the_shared_one(made_up):
    page = made_up({"_desc_": "Why.", "films": 3}, {"made.json: films": "Number of films."})
    assert "| `films` | `3` | Number of films. |" in page
    assert "## made.json\n\nWhy.\n\n| id" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "`null`"),
        ("$a | b", '`"$a \\| b"`'),
        ({"_target_": "bundle.x.Y", "long": "z" * 60}, "`bundle.x.Y`"),
        ({"a": "z" * 60, "b": 1}, "2 entries"),
        (["z" * 60], "1 entry"),
        ("$" + "z" * 60, "an expression"),
    ],
)
def test_values_are_shown_or_named(value, text):
    assert shown(value) == text
