"""What a preparation would find and need, from its lists and a few knees; nothing is written."""

from __future__ import annotations

import gzip
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bundle.data.boxes import read_boxes
from bundle.data.prepare import find_source
from bundle.data.prepare_knee import Options, make_knee

TRIED = 3
"""Knees that are made, in memory, to measure time and size."""


def dry_run(
    oai: str | Path | None,
    options: Options,
    *,
    pairs: str | Path | None = None,
    boxes: str | Path | None = None,
    finder: str | Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Say what is there and what preparing it would need.

    Args:
        oai: as for `prepare`, and so are the others.
        options: what would be made.
        pairs: list of films and volumes.
        boxes: list of boxes around knees.
        finder: weights of the knee finder.
        workers: processes; None means one a core.

    Returns:
        `counts`, `sequences`, `dropped` (reason to number), `with_readings`, `seconds_per_knee`, `hours`, `gigabytes`
        and `tried`; the last three are None where no knee that was tried could be made.

    Raises:
        FileNotFoundError, ValueError: as `prepare`.
    """
    source = find_source(oai, options, pairs=pairs)
    known = read_boxes(boxes) if boxes is not None else None
    network = None if finder is None else Path(finder)
    knees, seconds, sizes = source.index.pairs, [], []
    # spread over the release: its ends may be unlike its middle
    for place in dict.fromkeys(int(i) for i in np.linspace(0, max(len(knees) - 1, 0), min(TRIED, len(knees)))):
        start = time.perf_counter()
        try:
            film, volume, affine, _ = make_knee(knees[place], options=options, boxes=known, finder=network)
        except Exception:  # a bad knee is the preparation's to name
            continue
        sizes.append(sum(_packed(array, affine) for array in (film.numpy()[0], volume)))
        seconds.append(time.perf_counter() - start)
    each = float(np.mean(seconds)) if seconds else None
    return {
        "counts": source.index.counts,
        "sequences": source.index.sequences,
        "dropped": dict(Counter(item["reason"] for item in source.index.dropped).most_common(10)),
        "with_readings": sum(pair.name in source.readings for pair in knees),
        "tried": len(seconds),
        "seconds_per_knee": each,
        "hours": each * len(knees) / max(workers or os.cpu_count() or 1, 1) / 3600 if each else None,
        "gigabytes": float(np.mean(sizes)) * len(knees) / 1e9 if sizes else None,
    }


def _packed(values: np.ndarray, affine: np.ndarray) -> int:
    """Bytes of an image in [-1, 1] as `write_nifti` stores it."""
    stored = np.round(np.clip((values + 1) / 2, 0, 1) * 65535).astype(np.uint16)
    return len(gzip.compress(nib.Nifti1Image(stored, affine).to_bytes(), compresslevel=1))
