"""The same prepared set with fewer training knees, for a learning curve."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bundle.data.datalist import read_dataset
from bundle.keys import PARTICIPANT
from bundle.writers import whole


def write_subset(root: str | Path, folder: str | Path, *, knees: int) -> Path:
    """Write a `dataset.json` of the first training knees; validation and test stay as they are.

    Smaller sets are contained in larger ones, and a participant's knees stay together: the last who would be cut in
    two is left out. Images are not copied; the entries point to those of `root`.

    Args:
        root: a prepared set.
        folder: of the new one, made if absent.
        knees: how many training knees at most.

    Returns:
        `folder`.

    Raises:
        ValueError: if there are fewer training knees, or not one participant fits.
    """
    content = read_dataset(root)
    training = content["training"]
    if not 0 < knees <= len(training):
        raise ValueError(f"`knees` must be 1 to {len(training)}, the training knees of {root}, got {knees}.")
    people: dict[str, list[dict]] = {}
    for item in training:
        people.setdefault(item[PARTICIPANT], []).append(item)
    chosen: list[dict] = []
    for items in people.values():
        if len(chosen) + len(items) > knees:
            break
        chosen += items
    if not chosen:
        raise ValueError(f"`knees` is {knees}, and the first participant of {root} has more; ask for more.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Relative, so that both folders may be moved together.
    up = Path(os.path.relpath(Path(root).resolve(), folder.resolve()))

    def moved(item: dict) -> dict:
        return item | {name: (up / item[name]).as_posix() for name in ("film", "mri")}

    splits = {split: [moved(item) for item in content[split]] for split in ("validation", "test")}
    with whole(folder / "dataset.json") as temporary:
        temporary.write_text(json.dumps(content | splits | {"training": [moved(item) for item in chosen]}, indent=1))
    return folder
