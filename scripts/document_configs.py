"""Write docs/configs.md: every top-level id of every config, its value there and what it means.

Values come from the configs, what a config is for from its `_desc_`, and meanings from docs/config_ids.json: an id
means the same wherever it stands (where it does not, the entry is `CONFIG: ID`). An id without a meaning, and a
meaning without an id, is an error.
"""

import argparse
import sys
from pathlib import Path

from bundle.command_line import fail
from bundle.reports.config_page import config_page

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "docs" / "configs.md",
        metavar="FILE",
        help="file to write; default: docs/configs.md",
    )
    arguments = parser.parse_args()
    try:
        page = config_page(ROOT / "configs", ROOT / "docs" / "config_ids.json")
        arguments.out.write_text(page, encoding="utf-8")
    except (ValueError, OSError) as error:
        return fail(error)
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
