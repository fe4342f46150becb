"""Every public object says what it is, and what its parameters are and what comes back where that is not plain."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "bundle").rglob("*.py"))
IN_FULL = ("api.py", "engines", "inferers", "networks", "sampling", "weights", "writers", "reports/config_page.py")
"""What configs, Python callers and overlays build on; elsewhere a sentence may name the parameters."""
PLAIN = 2
"""Parameters that a sentence of the docstring may name instead of an `Args` section."""


def public_objects(tree: ast.Module) -> Iterator[tuple[str, ast.AST, ast.arguments | None]]:
    """Name, node and parameters of public functions and classes; a class's parameters are its `__init__`'s."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node, node.args
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            start = next((method.args for method in methods if method.name == "__init__"), None)
            yield node.name, node, start
            for method in methods:
                if not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, None


def names(arguments: ast.arguments) -> list[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument.arg for argument in every if argument.arg not in ("self", "cls") and argument.arg[0] != "_"]


def gaps(source: str, *, in_full: bool = True) -> list[str]:
    """What a module leaves unsaid; without `in_full`, parameters may be left out."""
    found = []
    for name, node, arguments in public_objects(ast.parse(source)):
        text = ast.get_docstring(node) or ""
        if not text:
            found.append(f"{name}: no docstring")
            continue
        parameters = names(arguments) if arguments else []
        section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        if section:
            unsaid = [p for p in parameters if not re.search(rf"(?<!\w)`?{p}`?(?!\w)", section[1])]
            found += [f"{name}: `{p}` is not under Args" for p in unsaid]
        elif in_full and len(parameters) > PLAIN:
            found.append(f"{name}: no Args for {', '.join(parameters)}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_objects_are_documented(path):
    place = path.relative_to(ROOT / "bundle").as_posix()
    assert gaps(path.read_text(), in_full=place.startswith(IN_FULL)) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(a):\n    pass", "f: no docstring"),
        ('def f(a, b, c):\n    """Do."""', "f: no Args for a, b, c"),
        ('def f(a, b):\n    """Do.\n\n    Args:\n        a: one.\n    """', "f: `b` is not under Args"),
        ('class A:\n    """A."""\n\n    def __init__(self, a, b, c):\n        pass', "A: no Args for a, b, c"),
        ('class A:\n    """A."""\n\n    def f(self):\n        pass', "A.f: no docstring"),
    ],
)
def test_gap_is_found(source, said):
    assert gaps(source) == [said]


def test_private_and_plain_objects_pass():
    assert gaps('def _f(a, b, c):\n    pass\n\n\ndef g(a, b):\n    """Add a to b."""') == []
