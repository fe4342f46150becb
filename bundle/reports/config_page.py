"""The page of all config ids, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LONGEST = 56
"""Characters of a value that are shown as they are; longer ones are named by what they are."""
NOT_WORKFLOWS = ("metadata.json",)
HEAD = """# Config ids

Every top-level id of every config, its value in that file and what it means. Any of them can be given on the command
line (`--epochs 20`) or in a config laid over another (`--config_file "['configs/train.json','mine.json']"`); `a#b` is
`b` inside `a`, and `+a` adds to `a` instead of replacing it. Values that begin with `$` are Python, evaluated when the
config is read: see [SECURITY.md](../SECURITY.md).

This page is written by `.venv/bin/python scripts/document_configs.py` from the configs and `config_ids.json`.
"""


def config_page(configs: str | Path, meanings: str | Path) -> str:
    """Write the page.

    Args:
        configs: folder of the configs, with subfolders.
        meanings: JSON file, id to its meaning in one sentence; `CONFIG: ID` where one config's differs.

    Returns:
        Markdown.

    Raises:
        ValueError: if an id has no meaning, a meaning has no id, or a config has no `_desc_`; names all of them.
    """
    told: dict[str, str] = json.loads(Path(meanings).read_text(encoding="utf-8"))
    used: set[str] = set()
    faults, parts = [], [HEAD]
    for name, config in read_configs(configs):
        if not config.get("_desc_"):
            faults.append(f"{name}: no `_desc_`")
        parts.append(f"## {name}\n\n{config.get('_desc_', '')}\n\n| id | value | meaning |\n| --- | --- | --- |")
        for entry, value in config.items():
            if entry.startswith("_"):
                continue
            key = next((key for key in (f"{name}: {entry}", entry) if key in told), None)
            if key is None:
                faults.append(f"{name}: `{entry}` has no meaning")
                continue
            used.add(key)
            parts.append(f"| `{entry}` | {shown(value)} | {told[key]} |")
        parts.append("")
    faults += [f"`{key}` has a meaning and is in no config" for key in sorted(told.keys() - used)]
    if faults:
        raise ValueError(f"{meanings}: " + "; ".join(faults) + ".")
    # tables follow their heading line by line, and one empty line ends them
    return "\n".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n"


def read_configs(folder: str | Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and content of each config: the two that stand alone first, then by name."""
    folder = Path(folder)
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.json")}
    first = [name for name in ("train.json", "inference.json", "evaluate.json") if name in paths]
    for name in [*first, *sorted(paths.keys() - set(first))]:
        if name not in NOT_WORKFLOWS:
            yield name, json.loads(paths[name].read_text(encoding="utf-8"))


def shown(value: Any) -> str:
    """A value as a table shows it: as it is where it is short, else what it is."""
    text = json.dumps(value)
    if len(text) <= LONGEST:
        return "`" + text.replace("|", "\\|") + "`"
    if isinstance(value, dict):
        target = value.get("_target_")
        return f"`{target}`" if target else f"{len(value)} entries"
    if isinstance(value, list):
        return f"{len(value)} entries" if len(value) > 1 else "1 entry"
    return "an expression"
