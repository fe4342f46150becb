"""An array on disk whose rows all ranks make together, once, and whose making survives being killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import ignite.distributed as idist
import numpy as np
from monai.utils import optional_import

FileLock, _ = optional_import("filelock", name="FileLock")
tqdm, _ = optional_import("tqdm", name="tqdm")
LOCK = ".caches.lock"


def shared_rows(path: Path, *, count: int, make: Callable[[int], np.ndarray]) -> np.ndarray:
    """The array at `path`, memory-mapped; where it is absent, each rank makes its share of the rows first.

    Rows go into `<name>.partial`, and `<name>.done` says which of them are whole, so that a run that was killed goes
    on where it stopped, with any number of ranks. The array gets its name when every row is there. Every rank must
    see the folder; across machines that takes a file system that keeps mappings coherent. Runs that share the folder
    take turns: the second waits for the first, and finds what it made.

    Args:
        path: an `.npy` file whose name says what its rows depend on.
        count: number of rows.
        make: index to row; all rows have one shape and type.

    Returns:
        (count, *row), read-only.

    Raises:
        ValueError: if `count` is 0.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}: there is nothing to encode.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(LOCK)) if idist.get_rank() == 0 else nullcontext():
        idist.barrier()
        if not path.is_file():  # alike on every rank: no other run makes it now, and this one behind the barriers alone
            _make_rows(path, count, make)
    return np.load(path, mmap_mode="r")


def _make_rows(path: Path, count: int, make: Callable[[int], np.ndarray]) -> None:
    partial, done = path.with_suffix(".partial"), path.with_suffix(".done")
    if idist.get_rank() == 0 and not (partial.is_file() and done.is_file()):
        _begin(partial, done, count, make(0))
    idist.barrier()
    rows, whole = _open(partial, done, count)
    mine = [row for row in range(idist.get_rank(), count, idist.get_world_size()) if not whole[row]]
    for row in tqdm(mine, desc=path.stem, unit="row", disable=idist.get_rank() != 0):
        rows[row] = make(row)
        rows.flush()
        whole[row] = 1
        whole.flush()
    idist.barrier()
    if idist.get_rank() == 0:
        os.replace(partial, path)
        done.unlink()
    idist.barrier()


def _begin(partial: Path, done: Path, count: int, first: np.ndarray) -> None:
    """Write both files with the first row; `done` comes last and makes them count."""
    done.unlink(missing_ok=True)
    rows = np.lib.format.open_memmap(partial, mode="w+", dtype=first.dtype, shape=(count, *first.shape))
    rows[0] = first
    rows.flush()
    temporary = done.with_name(f".{done.name}.{os.getpid()}")
    temporary.write_bytes(b"\1" + b"\0" * (count - 1))
    os.replace(temporary, done)


def _open(partial: Path, done: Path, count: int) -> tuple[np.memmap, np.memmap]:
    return np.lib.format.open_memmap(partial, mode="r+"), np.memmap(done, np.uint8, mode="r+", shape=(count,))
