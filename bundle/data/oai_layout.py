"""Where the parts of an OAI directory release lie below a folder, found without walking through the images."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

CONTENTS = "contents.csv"
RELEASE = re.compile(r"^\d{1,2}\.[A-Z]\.\d$")
"""Name of a release folder such as `0.C.2`."""
VISITS = {0: "00m", 1: "12m", 2: "18m", 3: "24m", 4: "30m", 5: "36m", 6: "48m", 8: "72m", 10: "96m"}
"""First number of a release, which is also the number in names of tables and columns, to the visit's folder."""
MAX_DEPTH = 8


@dataclass(frozen=True)
class Layout:
    """What a download holds.

    Args:
        image_folders: folders with `contents.csv`, or with release folders.
        tables: text files outside of these.
    """

    image_folders: tuple[Path, ...]
    tables: tuple[Path, ...]

    def table(self, name: str) -> Path | None:
        """The table of that name, whatever its case; the shallowest of several; None if there is none."""
        found = [path for path in self.tables if path.name.lower() == name.lower()]
        return min(found, key=lambda path: (len(path.parts), str(path)), default=None)


def find_layout(root: str | Path) -> Layout:
    """Look for image folders and tables below `root`, in at most `MAX_DEPTH` levels.

    Raises:
        FileNotFoundError: if `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"OAI data {root}: no such folder.")
    images, tables, seen = [], [], set()
    for folder, children, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or len(Path(folder).relative_to(root).parts) >= MAX_DEPTH:
            children.clear()
            continue
        seen.add(real)
        children.sort()
        tables += [Path(folder) / name for name in files if name.lower().endswith(".txt")]
        if any(name.lower() == CONTENTS for name in files) or any(RELEASE.match(name) for name in children):
            images.append(Path(folder))
            children.clear()
    return Layout(tuple(images), tuple(sorted(tables)))


def visit_of_release(release: str) -> str | None:
    """`00m` of `0.C.2`; None if it is no release."""
    return VISITS.get(int(release.split(".")[0])) if RELEASE.match(release) else None


def visit_number(visit: str) -> str:
    """The two digits by which tables and columns call a visit, such as `01` of `12m`.

    Raises:
        ValueError: naming the visits that exist.
    """
    for number, name in VISITS.items():
        if name == visit:
            return f"{number:02d}"
    raise ValueError(f"`visit` must be one of {', '.join(VISITS.values())}, got {visit!r}.")
