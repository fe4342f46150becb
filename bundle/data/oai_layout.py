"""Where the parts of an OAI directory release lie below a folder, found without walking through the images."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

CONTENTS = "contents.csv"
SHEET = re.compile(r"^image03.*\.(txt|csv)$", re.IGNORECASE)
"""NDA's list of images; a download in parts has several."""
TABLES = (".txt", ".csv", ".sas7bdat")
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
        tables: text and SAS files outside of these.
        sheets: NDA's lists of images among them.
    """

    image_folders: tuple[Path, ...]
    tables: tuple[Path, ...]
    sheets: tuple[Path, ...] = ()

    def table(self, pattern: str) -> Path | None:
        """The table whose name without ending matches, whatever its case; None if there is none.

        Of several the shallowest, text before SAS.
        """
        found = [path for path in self.tables if re.fullmatch(pattern, path.stem, re.IGNORECASE)]
        return min(
            found, key=lambda path: (len(path.parts), TABLES.index(path.suffix.lower()), str(path)), default=None
        )

    def readings(self, digits: str) -> Path | None:
        """The readings of a visit, such as `01`: of the ASCII or SAS release, else NDA's table of all visits."""
        return self.table(rf"kxr_sq_bu{digits}(_sas)?") or self.table(r"(oai_)?kxrsemiquant01")

    def people(self, digits: str) -> list[Path | None]:
        """Tables with sex, site, age and body mass index at a visit."""
        nda = [self.table(r"(oai_)?enrollees?01"), self.table(r"(oai_)?allclinical01")]
        return [*nda, self.table("enrollees"), self.table(rf"allclinical{digits}(_sas)?")]


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
        tables += [Path(folder) / name for name in files if name.lower().endswith(TABLES) and name.lower() != CONTENTS]
        if any(name.lower() == CONTENTS for name in files) or any(RELEASE.match(name) for name in children):
            images.append(Path(folder))
            children.clear()
    sheets = tuple(sorted(path for path in tables if SHEET.match(path.name)))
    return Layout(tuple(images), tuple(sorted(tables)), sheets)


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
