"""The house's order: each layer imports only layers before it, and files stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import CHECKOUT

PACKAGE = CHECKOUT / "gradaudit"
# Layers in the order in which each may import: those before it, never those after.
ORDER = (
    ("errors", "resources"),
    ("telling", "pacing"),
    ("json_object",),
    ("records",),
    ("limits", "recipes", "tolerances"),
    ("settings",),
    ("output", "repository", "supervisor"),
    ("gauge",),
    ("guards",),
    ("linalg",),
    ("onnx_graph",),
    ("subject",),
    ("probes",),
    ("rules",),
    ("config",),
    ("remedies",),
    ("reports",),
    ("gate",),
    ("comparing",),
    ("plan",),
    ("measure",),
    ("forecast",),
    ("judging",),
    ("mending",),
    ("locating",),
    ("auditing",),
    ("fixing",),
    ("written",),
    ("assets",),
    ("formats",),
    ("given",),
    ("targets",),
    ("in_force",),
    ("run", "inspecting", "differing", "options"),
    ("completion",),
    ("cli",),
    ("__main__",),
)
RANK = {name: i for i, names in enumerate(ORDER) for name in names}
LAZY = {"__init__"}  # public names, found on first use
HEAVY = ("torch", "numpy", "matplotlib", "jinja2", "networkx", "scipy", "safetensors", "onnx")
LONGEST = 300
FILES = sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """Dotted names of every module that ``path`` imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module
            if node.module == "gradaudit":
                yield from (f"gradaudit.{alias.name}" for alias in node.names)
            else:
                yield node.module


def own(path: Path) -> set[str]:
    """Layers of the package that ``path`` imports."""
    found = {name.split(".")[1] for name in imports(path) if name.startswith("gradaudit.")}
    return found - {"__version__"}


def test_every_layer_has_its_place() -> None:
    assert {layer(path) for path in FILES} == set(RANK) | LAZY


@pytest.mark.parametrize("name", list(RANK))
def test_imports_go_one_way(name: str) -> None:
    for path in FILES:
        if layer(path) == name:
            later = {found for found in own(path) if found != name and RANK[found] >= RANK[name]}
            assert not later, f"{path.relative_to(CHECKOUT)} imports {sorted(later)}"


def test_rules_know_neither_tensors_nor_probes() -> None:
    for path in FILES:
        if layer(path) == "rules":
            assert own(path) <= {"errors", "records", "limits", "settings", "rules"}, path
            assert not {name.split(".")[0] for name in imports(path)} & set(HEAVY), path


def test_reports_know_only_the_record() -> None:
    for path in FILES:
        if layer(path) == "reports":
            assert own(path) <= {"errors", "resources", "telling", "records", "reports"}, path
            assert "torch" not in {name.split(".")[0] for name in imports(path)}, path


def test_linalg_knows_tensors_and_no_models() -> None:
    for path in FILES:
        if layer(path) == "linalg":
            assert own(path) <= {"errors", "records", "linalg"}, path
            assert "torch.nn" not in set(imports(path)), path


@pytest.mark.parametrize(
    "name",
    [
        *("__init__", "cli", "options", "run", "guards", "output", "formats", "supervisor"),
        *("completion", "given", "recipes", "targets", "limits", "tolerances", "settings"),
        "json_object",
        *(f"config/{path.stem}" for path in sorted((PACKAGE / "config").glob("*.py"))),
    ],
)
def test_the_command_starts_without_torch(name: str) -> None:
    """Nothing heavy at the top of what ``gradaudit --help`` imports."""
    light = {
        "completion",
        "config",
        "errors",
        "formats",
        "assets",
        "gauge",
        "given",
        "pacing",
        "guards",
        "json_object",
        "limits",
        "options",
        "output",
        "recipes",
        "records",
        "repository",
        "resources",
        "settings",
        "supervisor",
        "targets",
        "telling",
        "tolerances",
    }
    path = PACKAGE / f"{name}.py"
    top = set(imports(path, top_only=True))
    assert not {found.split(".")[0] for found in top} & set(HEAVY)
    mine = {found.split(".")[1] for found in top if found.startswith("gradaudit.")}
    assert mine - {"__version__"} <= light


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_rules_are_one_file_each() -> None:
    """A rule imports none of its siblings: a new one is one new file."""
    files = list((PACKAGE / "rules").glob("*.py"))
    rules = {f"gradaudit.rules.{path.stem}" for path in files if path.stem[0] != "_"}
    rules -= {"gradaudit.rules.catalogue"}
    assert len(rules) >= 15
    for path in files:
        if f"gradaudit.rules.{path.stem}" in rules:
            assert not set(imports(path)) & rules, path
