"""What a command says when it cannot do what it was told: one line on stderr, and exit code 1.

Scripts that import nothing of `bundle` (they start without torch, or in another environment) write it themselves.
"""

from __future__ import annotations

import sys


def one_line(error: Exception) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())


def fail(error: Exception) -> int:
    """Print `error: ` and the message on stderr; gives the exit code."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return 1
