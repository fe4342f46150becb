"""The import table of the code base as data, and the proof that it holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FOUNDATION = {"keys", "readings", "covariates", "geometry", "command_line"}
"""Rank 0: whoever is in `ARROWS` may import these."""
ARROWS: dict[str, set[str]] = {
    **{part: set() for part in FOUNDATION},
    "phantom": set(),
    "sampling": set(),
    "metrics": set(),
    "writers": set(),
    "transforms": set(),
    "networks": {"sampling"},
    "reports": {"metrics", "writers"},
    "handlers": {"metrics", "writers", "reports"},
    "data": {"transforms", "writers", "networks"},
    "inferers": {"networks", "sampling"},
    "weights": {"networks"},
    "tables": {"data", "writers", "reports"},
}
"""What each part of `bundle` imports beside rank 0 and itself; parts that are not here are unknown."""
ARROWS["engines"] = set(ARROWS) - {"phantom"}
ARROWS["api"] = set(ARROWS) - {"phantom"}

LIBRARIES = {
    *{"monai", "torch", "numpy", "ignite", "open_clip", "einops", "nibabel", "pydicom", "skimage"},
    *sys.stdlib_module_names,
}
"""What a module of `bundle` may import outright; the rest goes through `monai.utils.optional_import`."""


def module_name(path: Path) -> str:
    """Dotted name of a file below the root: `bundle/data/__init__.py` is `bundle.data`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def absolute_origin(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    """The module that `from ... import` names, relative ones made absolute."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *filter(None, [node.module])])


def imported_names(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported anywhere in a module, `from a import b` giving `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute_origin(node, module, is_package=is_package)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def arrow_violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Imports of `bundle` that the table does not allow, in the source of one of its modules."""
    if module == "bundle":
        return []
    part = module.split(".")[1]
    if part not in ARROWS:
        return [f"{module}: `bundle.{part}` has no place in the import table"]
    allowed = FOUNDATION | ARROWS[part] | {part}
    violations = []
    for line, name in imported_names(ast.parse(source), module, is_package=is_package):
        head, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if head == "bundle" and target not in allowed:
            violations.append(f"{module}:{line}: `{part}` may not import `{head}{target and '.'}{target}`")
    return violations


def library_violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Third-party imports that are neither in `LIBRARIES` nor optional."""
    return [
        f"{module}:{line}: `{name}` must come through `optional_import`"
        for line, name in imported_names(ast.parse(source), module, is_package=is_package)
        if name.partition(".")[0] not in LIBRARIES | {"bundle"}
    ]


def late_imports(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Imports inside functions, by statement or by call: MONAI Label calls them when the root is off `sys.path`."""
    violations = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        names = {
            (line, name)
            for line, name in imported_names(function, module, is_package=is_package)
            if name.partition(".")[0] not in sys.stdlib_module_names | MAY_BE_LATE
        }
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            called = ast.unparse(call.func).rpartition(".")[2]
            if called in {"optional_import", "import_module", "__import__"}:
                names.add((call.lineno, called))
        violations += [f"{module}:{line}: `{name}` is imported inside a function" for line, name in sorted(names)]
    return violations


def script_violations(source: str, name: str, scripts: set[str]) -> list[str]:
    """Imports of a script, and edits of `sys.path`, in the source of a script, test or module."""
    tree = ast.parse(source)
    violations = [
        f"{name}:{line}: imports the script `{imported}`"
        for line, imported in imported_names(tree, name, is_package=False)
        if imported.partition(".")[0] in scripts | {"scripts"}
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            violations.append(f"{name}:{node.lineno}: touches `sys.path`; the root is installed editable")
    return violations


MODULES = sorted((ROOT / "bundle").rglob("*.py"))
SCRIPTS = {path.stem for path in (ROOT / "scripts").glob("*.py")}
MAY_BE_LATE = {"open_clip"}
"""Installed packages that add a second and 60 MB to `import bundle`, and that few runs need; where the
root is does not matter to them."""
RULES = {"arrows": arrow_violations, "libraries": library_violations, "late": late_imports}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_imports_what_the_table_allows(path, rule):
    violations = RULES[rule](path.read_text(), module_name(path), is_package=path.name == "__init__.py")
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize("folder", ["bundle", "scripts"])
def test_nobody_imports_scripts_or_edits_the_path(folder):
    violations = [
        violation
        for path in sorted((ROOT / folder).rglob("*.py"))
        for violation in script_violations(path.read_text(), str(path.relative_to(ROOT)), SCRIPTS - {path.stem})
    ]
    assert not violations, "\n".join(violations)
    assert not (ROOT / "scripts/__init__.py").exists(), "scripts are run, never imported"


def test_import_bundle_imports_every_submodule():
    """In a process of its own: here, other tests have imported much already."""
    program = "import sys, bundle; print(*(name for name in sys.modules if name.split('.')[0] == 'bundle'))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert {module_name(path) for path in MODULES} - set(loaded.stdout.split()) == set()


def test_no_module_is_called_utils():
    assert not [path for path in MODULES if path.stem in {"utils", "helpers", "misc"}]


# That the rules can fail: made-up sources, one violation each.


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from bundle.data.datalist import pairs", "bundle.phantom.film"),
        ("import bundle.phantom.anatomy", "bundle.data.oai_dicom"),
        ("from bundle import phantom", "bundle.engines.trainers"),
        ("from ..data import datalist", "bundle.phantom.film"),
        ("import bundle", "bundle.metrics.rssim"),
        ("from bundle import metrics", "bundle.sampling.noise"),
        ("from bundle.networks import generator", "bundle.readings"),
        ("from bundle.engines import trainers", "bundle.networks.generator"),
        ("from bundle.api import load", "bundle.engines.trainers"),
        ("import numpy", "bundle.newcomer.thing"),
        ("def f():\n    from bundle.data import datalist", "bundle.phantom.film"),
    ],
)
def test_forbidden_arrow_is_found(source, module):
    assert len(arrow_violations(source, module)) == 1


def test_relative_import_in_a_package_is_resolved_from_the_package():
    assert arrow_violations("from .oai_dicom import read", "bundle.data", is_package=True) == []
    assert len(arrow_violations("from ..phantom import film", "bundle.data", is_package=True)) == 1


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from bundle.keys import FILM", "bundle.phantom.film"),
        ("from bundle import geometry, readings", "bundle.transforms.array"),
        ("from .array import Crop", "bundle.transforms.dictionary"),
        ("from bundle.networks import knee_finder", "bundle.data.oai_dicom"),
        ("from bundle.data import datalist\nfrom bundle.inferers import volume", "bundle.engines.trainers"),
        ("from bundle.engines import trainers", "bundle.api"),
        ("from bundle import phantom, api", "bundle"),
    ],
)
def test_allowed_arrow_passes(source, module):
    assert arrow_violations(source, module) == []


@pytest.mark.parametrize("source", ["import pandas", "from PIL import Image", "import matplotlib.pyplot as plt"])
def test_library_outside_the_list_is_found(source):
    assert len(library_violations(source, "bundle.writers.sheet")) == 1


def test_allowed_libraries_pass():
    source = "import json\nimport numpy as np\nfrom skimage.feature import canny\nfrom . import nifti"
    assert library_violations(source, "bundle.writers.sheet") == []


@pytest.mark.parametrize(
    "line",
    [
        "import numpy",
        "from bundle.data import datalist",
        "from . import datalist",
        "plt, _ = optional_import('matplotlib.pyplot')",
        "importlib.import_module('bundle.data')",
    ],
)
def test_late_import_is_found(line):
    assert late_imports(f"def f():\n    {line}", "bundle.data.datalist")
    assert late_imports(f"class A:\n    async def f(self):\n        {line}", "bundle.data.datalist")
    assert not late_imports(line, "bundle.data.datalist"), "the same line at module top is fine"


def test_script_importing_a_script_is_found():
    assert len(script_violations("from make_phantom import main", "scripts/a.py", {"make_phantom"})) == 1
    assert len(script_violations("from scripts import make_phantom", "scripts/a.py", set())) == 1
    assert len(script_violations("import sys\nsys.path.insert(0, '.')", "scripts/a.py", set())) == 1
    assert script_violations("import bundle\nfrom bundle.data import datalist", "scripts/a.py", {"b"}) == []
