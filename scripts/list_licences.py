"""Write docs/licences.md: the licence of every package of a lock, as pip-licenses reports it.

CSV is the output of pip-licenses (Name, Version, License, URL) for an environment with that lock; `make licences` runs
both. Packages that the lock has for other systems alone are not installed here and are named at the end.
"""

import argparse
import csv
import platform
import re
import sys
from pathlib import Path

HEAD = """# Licences of the packages

Every package of `requirements/{lock}`, which is what running needs, with the licence that it declares, as installed on
{system} with Python {python}. Written by `make licences` (pip-licenses in an environment of its own). Licences are as
stated by their authors, and nobody here has looked behind the statement; UNKNOWN is a package whose metadata state none
in a form that the tool reads. `make sbom` writes the same list as a bill of materials for scanners.

| package | version | licence |
| --- | --- | --- |
"""


def plain(name: str) -> str:
    """A package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def page(rows: list[dict[str, str]], lock: Path) -> str:
    """The page in Markdown; a version that differs from the lock's is an error."""
    locked: dict[str, set[str]] = {}  # a lock for several Pythons may hold several versions
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE):
        locked.setdefault(name, set()).add(version)
    found = {plain(row["Name"]): row for row in rows}
    lines, absent = [], []
    for name, versions in sorted(locked.items()):
        row = found.get(plain(name))
        if row is None:
            absent.append(name)
            continue
        if row["Version"] not in versions:
            raise ValueError(
                f"{name}: {row['Version']} is installed, {' or '.join(sorted(versions))} is locked; run `make env`."
            )
        shown = f"[{name}]({row['URL']})" if row["URL"].startswith("http") else name
        lines.append(f"| {shown} | {row['Version']} | {licence(row['License'])} |")
    text = (
        HEAD.format(lock=lock.name, system=platform.system(), python=".".join(platform.python_version_tuple()[:2]))
        + "\n".join(lines)
        + "\n"
    )
    if absent:
        text += f"\nOnly on other systems, so not looked at here: {', '.join(absent)}.\n"
    return text


def licence(text: str) -> str:
    """A licence for a table's cell; where a package gives its whole text, the first line of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else "not stated").replace("|", "\\|").replace(";", ",")[:120]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="CSV", help="output of pip-licenses")
    parser.add_argument("--lock", required=True, type=Path, metavar="FILE", help="lock whose packages are listed")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file to write")
    arguments = parser.parse_args()
    try:
        with arguments.file.open(newline="", encoding="utf-8") as file:
            text = page(list(csv.DictReader(file)), arguments.lock)
        arguments.out.write_text(text, encoding="utf-8")
    except (ValueError, OSError, KeyError) as error:
        print("error: " + re.sub(r"\s+", " ", str(error)), file=sys.stderr)
        return 1
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
