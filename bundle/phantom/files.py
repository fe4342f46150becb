"""Files that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import os
from pathlib import Path


def temporary(path: Path) -> Path:
    """Name beside `path` under which to write it; the suffixes stay, for writers that look at them."""
    return path.with_name(f".{os.getpid()}-{path.name}")


def write_text(path: Path, text: str, *, encoding: str = "utf-8") -> None:
    """Write a text file whole, or leave what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary(path)
    unfinished.write_text(text, encoding=encoding)
    unfinished.replace(path)
