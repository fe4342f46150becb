"""What a command says when it cannot do what it was told: one line on stderr, and exit code 1.

Scripts that import nothing of `bundle` (they start without torch, or in another environment) write it themselves.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path


def one_line(error: Exception) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())


def fail(error: Exception) -> int:
    """Print `error: ` and the message on stderr; gives the exit code."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return 1


def check_folder(folder: Path, option: str) -> None:
    """Refuse a folder that can never be made or written to, before anything is computed for it.

    Args:
        folder: which need not exist.
        option: how the error calls it, such as `--out`.

    Raises:
        FileExistsError: if it, or a folder above it, is a file.
        PermissionError: if nothing may be written there.
    """
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        raise FileExistsError(f"{option} {folder}: {there} is a file; a folder was expected there.")
    if there is not None and not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{option} {folder}: {there} may not be written to; name another folder.")


def print_names_as_they_are() -> None:
    """Let paths be printed whose bytes are no text; they come out as the bytes that they are."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
