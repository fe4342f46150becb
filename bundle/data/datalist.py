"""The prepared set's `dataset.json`: film and MRI pairs by split."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from bundle.geometry import SIDES
from bundle.keys import FILM, MRI, PARTICIPANT, READINGS, SIDE, VISIT

SPLITS = ("training", "validation", "test")
NUMBERS, TEXTS = ("age", "bmi"), ("sex", "site")
"""Covariates; where one is missing a batch cannot hold None, so it is NaN or the empty text."""


def read_dataset(root: str | Path) -> dict[str, Any]:
    """The content of `dataset.json`.

    Raises:
        FileNotFoundError: if folder or file is absent.
        ValueError: if it is not what `scripts/prepare_data.py` writes.
    """
    path = Path(root) / "dataset.json"
    if not path.is_file():
        what = "no dataset.json in it" if Path(root).is_dir() else "no such folder"
        raise FileNotFoundError(
            f"dataset {root}: {what}; `make data` makes the phantom's, scripts/prepare_data.py OAI's."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); prepare the data again.") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(split), list) for split in SPLITS):
        raise ValueError(f"{path}: must hold the lists {', '.join(SPLITS)}; prepare the data again.")
    return content


def pairs(root: str | Path, split: str) -> list[dict[str, Any]]:
    """Film and MRI pairs of one split.

    Args:
        root: folder of the prepared set.
        split: `training`, `validation` or `test`.

    Returns:
        a dictionary a knee: `image` and `mri` are absolute paths; `participant`, `side`, `visit` and `readings` (a
        missing one is None) are as prepared, a missing `age` or `bmi` is NaN and a missing `sex` or `site` empty.

    Raises:
        FileNotFoundError: if the set, or an image of it, is absent.
        ValueError: if it is malformed, or the split is unknown or empty.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, got {split!r}.")
    root = Path(root).resolve()
    items = read_dataset(root)[split]
    if not items:
        raise ValueError(f"dataset {root}: the split `{split}` is empty; prepare more participants.")
    return [_pair(root, item, f"{root / 'dataset.json'}, `{split}`, entry {n}") for n, item in enumerate(items)]


def _pair(root: Path, item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ValueError(f"{where}: must be an object, got {item!r}.")
    for name in ("film", "mri", PARTICIPANT, VISIT):
        if not isinstance(item.get(name), str):
            raise ValueError(f"{where}: needs the text `{name}`, got {item.get(name)!r}.")
    if item.get(SIDE) not in SIDES:
        raise ValueError(f"{where}: `{SIDE}` must be R or L, got {item.get(SIDE)!r}.")
    if not isinstance(item.get(READINGS, {}), dict):
        raise ValueError(f"{where}: `{READINGS}` must map variables to grades, got {item[READINGS]!r}.")
    images = {FILM: root / item["film"], MRI: root / item["mri"]}
    for path in images.values():
        if not path.is_file():
            raise FileNotFoundError(f"{where}: {path} is not there; prepare the data again.")
    result: dict[str, Any] = {name: str(path) for name, path in images.items()}
    result |= {name: value for name, value in item.items() if name not in ("film", "mri")}
    result[READINGS] = item.get(READINGS, {})
    try:
        result |= {name: math.nan if item.get(name) is None else float(item[name]) for name in NUMBERS}
    except (TypeError, ValueError):
        raise ValueError(f"{where}: {' and '.join(NUMBERS)} must be numbers or null.") from None
    return result | {name: "" if item.get(name) is None else str(item[name]) for name in TEXTS}


def source(root: str | Path) -> str:
    """What the prepared knees are: `synthetic-phantom` for the phantom's, else what preparation recorded."""
    return str(read_dataset(root).get("source", "unknown"))
