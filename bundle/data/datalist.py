"""The prepared set's `dataset.json`: film and MRI pairs by split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bundle.keys import FILM, MRI

SPLITS = ("training", "validation", "test")


def read_dataset(root: str | Path) -> dict[str, Any]:
    """The content of `dataset.json`.

    Raises:
        FileNotFoundError: if folder or file is absent.
        ValueError: if it is not what `scripts/prepare_data.py` writes.
    """
    path = Path(root) / "dataset.json"
    if not path.is_file():
        what = "no such folder" if not Path(root).is_dir() else "no dataset.json in it"
        raise FileNotFoundError(
            f"dataset {root}: {what}; `make data` makes the phantom's, scripts/prepare_data.py OAI's."
        )
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}).") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(split), list) for split in SPLITS):
        raise ValueError(f"{path}: must hold the lists {', '.join(SPLITS)}.")
    return content


def pairs(root: str | Path, split: str) -> list[dict[str, Any]]:
    """Film and MRI pairs of one split.

    Args:
        root: folder of the prepared set.
        split: `training`, `validation` or `test`.

    Returns:
        a dictionary a knee: `image` and `mri` are absolute paths; `participant`, `side`, `visit`, `readings` and the
        covariates are as prepared.

    Raises:
        FileNotFoundError: if the set is absent.
        ValueError: if it is malformed, or the split is unknown or empty.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, got {split!r}.")
    root = Path(root).resolve()
    items = read_dataset(root)[split]
    if not items:
        raise ValueError(f"dataset {root}: the split `{split}` is empty; prepare more participants.")
    result = []
    for item in items:
        try:
            # MONAI's collation knows no None: an unknown covariate is absent
            rest = {key: value for key, value in item.items() if key not in ("film", "mri") and value is not None}
            result.append({FILM: str(root / item["film"]), MRI: str(root / item["mri"]), **rest})
        except (TypeError, KeyError, AttributeError):
            raise ValueError(f"{root / 'dataset.json'}: an entry of `{split}` has no film and mri: {item!r}.") from None
    return result


def source(root: str | Path) -> str:
    """What the prepared knees are: `synthetic-phantom` for the phantom's, else what preparation recorded."""
    return str(read_dataset(root).get("source", "unknown"))
