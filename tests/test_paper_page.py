"""docs/paper.md names commands, configurations and files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "paper.md").read_text()


def named(pattern):
    found = sorted(set(re.findall(pattern, TEXT)))
    assert found
    return found


@pytest.mark.parametrize("path", named(r"(?:configs|scripts|bundle)/[\w/]+\.(?:json|py)"))
def test_files_are_there(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("target", named(r"(?m)(?:^|`)make ([a-z-]+)"))
def test_make_targets_are_there(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", named(r"\]\(((?!https?:)[^)#]+)\)"))
def test_links_lead_somewhere(link):
    assert (ROOT / "docs" / link).is_file()
