"""Which outputs are there already: whole, of the same film, made with the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, first 16 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def finished(
    folder: str | Path, stem: str, *, film_sha256: str, settings: Mapping[str, Any]
) -> tuple[list[Path], dict[str, Any]] | None:
    """Files of a volume that need not be made again, and its sidecar; None if it must be made.

    Args:
        folder: as given to `write_synthetic`.
        stem: likewise.
        film_sha256: `file_hash` of the film.
        settings: what the volume depends on beside its film, as its sidecar has it.

    Raises:
        ValueError: if the files there belong to another film.
    """
    folder = Path(folder)
    sidecar = folder / f"{stem}_mri_synthetic.json"
    try:
        record = json.loads(sidecar.read_text())
        made_of, names = record.get("film_sha256"), list(record.get("files") or [])
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    if made_of not in (None, film_sha256):
        raise ValueError(
            f"{sidecar}: is of another film ({made_of}, this one is {film_sha256}); give another --out, or replace it "
            "with --overwrite."
        )
    files = [folder / str(name) for name in names]
    whole = bool(files) and all(file.exists() for file in files)
    same = made_of == film_sha256 and record.get("settings") == json.loads(json.dumps(settings))
    return (files, record) if whole and same else None
