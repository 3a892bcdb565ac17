"""Strata below, rooms above: a module imports from its own stratum and from lower ones only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aya_lib import settings

PACKAGE = settings.home() / "aya_lib"
STRATA = [
    ["errors", "settings", "__init__"],
    ["show", "picture", "labels", "site", "secrets"],
    ["node"],
    ["facts"],
    ["probe"],
    ["checks"],
    ["changes"],
    ["schema", "embedding", "knowledge", "vectors", "air", "access"],
    ["monitoring", "lab"],
    ["runbook"],
    ["cli", "cli_air", "cli_lab", "cli_knowledge", "cli_site", "cli_vectors", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(STRATA) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Modules of the package that a module imports at run time, also inside its functions."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "aya_lib":
            yield from [node.module] if "." in node.module else [f"aya_lib.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("aya_lib"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        there = module.split(".")[1]
        if there in RANK:
            assert RANK[there] <= RANK[here], f"{here} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_stays_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 330


def test_importing_the_library_loads_nothing_heavy() -> None:
    heavy = ["torch", "mlx", "matplotlib", "sentence_transformers", "papermill", "IPython", "fastapi", "keyring"]
    modules = "aya_lib, aya_lib.site, aya_lib.node.node, aya_lib.facts.overview, aya_lib.cli, aya_lib.runbook.book"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
