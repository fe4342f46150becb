"""Files that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished-"
"""Beginning of the name of a folder whose files are being written, followed by machine and process."""


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` if nothing is raised, and is deleted if so.

    The name keeps its endings, for libraries that look at them, and begins with a dot.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_set(folder: str | Path, *, last: str) -> Iterator[Path]:
    """A folder to write several files or folders to; they move to `folder` if nothing is raised.

    An old `last` goes first and the new one comes at the end, so that where it is, all the others are whole and of the
    same making. What a killed process left unfinished on this machine is removed.

    Args:
        folder: made if it is absent, once there is something to put there.
        last: name of the file that says that the set is whole.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{UNFINISHED}{platform.node()}-*"):
        if not _alive(left.name.rpartition("-")[2]):
            shutil.rmtree(left, ignore_errors=True)
    made = not folder.exists()
    temporary = folder / f"{UNFINISHED}{platform.node()}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "old").mkdir(parents=True)
    try:
        yield temporary
        (folder / last).unlink(missing_ok=True)
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == last):
            if path.name == "old":
                continue
            if (folder / path.name).is_dir():  # no rename puts a folder in the place of one
                os.replace(folder / path.name, temporary / "old" / path.name)
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True
