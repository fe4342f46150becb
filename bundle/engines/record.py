"""A run writes the configuration that made it beside its weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.bundle import ConfigParser
from monai.utils import optional_import

from bundle.writers import whole

parse_value, _ = optional_import("fire.parser", name="DefaultParseValue")


def merged_config(arguments: Sequence[str]) -> dict[str, Any] | None:
    """The configuration of a `python -m monai.bundle run` command, its files and overrides merged.

    Args:
        arguments: of the command, without the program's name.

    Returns:
        the configuration with its expressions as they were written; None if no `--config_file` is among the
        arguments, as when a workflow was started from Python.
    """
    options: dict[str, Any] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, joined, value = word[2:].partition("=")
            options[name] = parse_value(value if joined else words.pop(0) if words else "True")
    files = options.pop("config_file", None)
    if files is None:
        return None
    parser = ConfigParser()
    parser.read_config([files] if isinstance(files, str) else list(files))
    for name, value in options.items():
        if name not in NOT_OVERRIDES:
            parser[name] = value
    return parser.get()


NOT_OVERRIDES = ("run_id", "init_id", "final_id", "meta_file", "logging_file", "tracking", "args_file", "workflow_type")


def record_config(path: str) -> None:
    """Write this command's configuration to `path`; nothing when there is none."""
    config = merged_config(sys.argv[1:])
    if config is None or idist.get_rank() != 0:
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as temporary:
        temporary.write_text(json.dumps(config, indent=4) + "\n")
