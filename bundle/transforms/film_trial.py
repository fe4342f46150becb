"""A film read in a process of its own first: GDCM ends the process over some damaged streams instead of raising."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from bundle.transforms.film_files import read_film

SECONDS = 30.0
"""A film of 50 million pixels takes a few."""


def check_that_reading_ends(path: Path) -> None:
    """Refuse a film whose reading ends the process, or never ends; other faults are left to whoever reads it.

    Where processes cannot be forked cheaply, nothing is checked.

    Raises:
        ValueError: naming the film.
    """
    if sys.platform != "linux":
        return
    trial = get_context("fork").Process(target=_read, args=(path,))
    trial.start()
    trial.join(SECONDS)
    if trial.exitcode is None:
        trial.kill()
        trial.join()
    if trial.exitcode:
        raise ValueError(
            f"film {path}: cannot be read (it ends the process that reads it, or keeps it busy for {SECONDS:g} s); its "
            "pixel data is damaged, or too large for memory."
        )


def _read(path: Path) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what decoders say is said again by whoever reads it
    with suppress(Exception):
        read_film(path, spacing_mm=1.0)
