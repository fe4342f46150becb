"""What a command needs, looked at before anything else, so that what is missing is one line and no traceback."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.command_line import one_line
from bundle.data.datalist import pairs
from bundle.weights import read_weights


def preflight(*, dataset_dir: str, splits: Sequence[str], weights: str | None = None) -> None:
    """End the command with one line on stderr and exit code 1 if its data or weights cannot be used.

    `python -m monai.bundle run` turns any exception of a step into several screens of traceback; leaving by
    SystemExit is what it passes through. Library calls raise as usual.

    Args:
        dataset_dir: prepared data.
        splits: splits that the command reads.
        weights: weights file that it loads.

    Raises:
        SystemExit: with the reason.
    """
    try:
        for split in splits:
            pairs(dataset_dir, split)
        if weights is not None:
            read_weights(weights)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {one_line(error)}") from None
