"""One way to file: which package may import which, and no circles; imports inside functions and for typing count."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from aya_lib import settings

PACKAGE = settings.home() / "aya_lib"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# What everything knows; it imports nothing but itself.
BASE = {"aya_lib", "errors", "files", "settings", "secrets", "site", "show"}
EDGES = {
    "node": set(),
    "check": {"node"},
    "cluster": {"check", "node"},
    "plan": {"cluster", "node"},
    "operations.restore": {"check", "cluster", "node", "plan"},
    "operations.verify": {"check", "cluster", "node", "picture"},
    "operations.status": {"backup", "check", "cluster", "node"},
    "operations.failover": {"check", "cluster", "node", "plan"},
    "operations.rejoin": {"check", "cluster", "node", "operations.failover", "operations.verify", "plan"},
    "operations.switchback": {
        "check",
        "cluster",
        "node",
        "operations.failover",
        "operations.replication_mode",
        "operations.rejoin",
    },
    "operations.replication_mode": {"check", "cluster", "node", "plan"},
    "operations.autostart": {"check", "cluster", "node", "plan"},
    "operations.guard": {"cluster", "node"},
    "operations.host_key": {"check", "node", "plan"},
    "backup": {"check", "cluster", "node", "plan"},
    "operations.backup": {"backup", "check", "cluster", "node", "plan"},
    "operations.recovery_drill": {"backup", "check", "cluster", "node", "picture", "plan"},
    "operations.restore_backup": {"backup", "check", "cluster", "node", "operations.failover", "plan"},
    "picture": set(),
    "schema": {"check", "node", "plan"},
    "embedding": {"node"},
    "knowledge": {"check", "cluster", "embedding", "node", "picture", "plan", "schema"},
    "vectors": {"check", "cluster", "knowledge", "node", "picture", "plan", "schema"},
    "air": {"check", "cluster", "embedding", "knowledge", "node", "operations.autostart", "plan", "schema"},
    "lab": {"cluster", "embedding", "knowledge", "node", "operations.guard", "plan", "schema"},
    "runbook": {"check", "cluster", "lab", "node", "plan"},
    "cli": {
        "air",
        "backup",
        "check",
        "embedding",
        "knowledge",
        "lab",
        "node",
        "operations.guard",
        "operations.status",
        "runbook",
        "vectors",
    },
    "__main__": {"cli"},
}


def imports(path: Path) -> Iterator[str]:
    """Modules of the package that a module names, wherever in it and for whatever purpose."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "aya_lib":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "aya_lib")


def package(module: str) -> str:
    """The package that a module is filed under; each subject of ``operations`` is one."""
    parts = module.split(".")[1:] or [module]
    return ".".join(parts[:2]) if parts[0] == "operations" else parts[0]


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of a graph that hold more than one node (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


GRAPH = {module: set(imports(path)) - {module} for module, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_a_package_imports_only_along_a_listed_edge(module: str) -> None:
    here = package(module)
    for other in GRAPH[module]:
        there = package(other)
        assert there in {here, *BASE} | EDGES.get(here, set()), f"{module} imports {other}"


def test_every_listed_edge_is_used() -> None:
    used = {(package(module), package(other)) for module, others in GRAPH.items() for other in others}
    assert not {(here, there) for here, ends in EDGES.items() for there in ends} - used


def test_there_is_no_circle_of_packages() -> None:
    graph: dict[str, set[str]] = {}
    for module, others in GRAPH.items():
        graph.setdefault(package(module), set()).update(package(other) for other in others)
    assert circles({name: ends - {name} for name, ends in graph.items()}) == []


def test_there_is_no_circle_of_modules() -> None:
    assert circles(GRAPH) == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_stays_small(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 330


PURE = [
    name
    for name in MODULES
    if name.startswith("aya_lib.cluster.judge.") or name.rpartition(".")[2] in ("judge", "plan", "fencing", "method")
]
LOOKS = [
    name
    for name in MODULES
    if name.endswith(".look")
    or (name.startswith("aya_lib.cluster.") and name.rpartition(".")[2] not in ("canary", "application"))  # they try by writing
]
TOUCHING = {"session", "shell"}  # of a node: what asks or changes something
CALLED = {"postgresql", "open", "now", "utcnow", "today", "monotonic", "perf_counter"}
WORLD = {
    "os",
    "time",
    "getpass",
    "platform",
    "socket",
    "subprocess",
    "shutil",
    "psutil",
    "random",
    "tempfile",
    "aya_lib.settings",
}


def impure(tree: ast.Module) -> Iterator[str]:
    """What a module that decides must not do: touch a node, ask the clock, or read the environment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if alias.name in WORLD)
        elif isinstance(node, ast.ImportFrom):
            names = {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
            yield from (f"import {name}" for name in names & WORLD)
        elif isinstance(node, ast.Attribute) and node.attr in TOUCHING:
            yield f"line {node.lineno}: .{node.attr}"
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in CALLED or (called == "stamp" and not node.args):
                yield f"line {node.lineno}: {called}()"


def writes(tree: ast.Module) -> Iterator[str]:
    """Sessions that may write."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.keyword)
            and node.arg == "write"
            and not (isinstance(node.value, ast.Constant) and node.value.value is False)
        ):
            yield f"line {node.value.lineno}: write="


@pytest.mark.parametrize("module", PURE)
def test_what_judges_and_plans_touches_no_node_no_clock_and_no_environment(module: str) -> None:
    assert not list(impure(ast.parse(MODULES[module].read_text())))


@pytest.mark.parametrize("module", LOOKS)
def test_what_looks_opens_no_session_that_may_write(module: str) -> None:
    assert not list(writes(ast.parse(MODULES[module].read_text())))


@pytest.mark.parametrize(
    "broken",
    [
        "import time",
        "from os import environ",
        "from aya_lib import settings",
        "def f(node):\n    return node.shell.run(['true'])",
        "def f(node):\n    with node.session() as c:\n        pass",
        "x = datetime.now(UTC)",
        "x = state.stamp()",
        "x = open('f')",
    ],
)
def test_the_rule_sees_what_it_forbids(broken: str) -> None:
    assert list(impure(ast.parse(broken)))


def test_importing_the_library_loads_nothing_heavy() -> None:
    heavy = ["torch", "mlx", "matplotlib", "sentence_transformers", "papermill", "IPython", "fastapi", "keyring"]
    modules = "aya_lib, aya_lib.site, aya_lib.node.node, aya_lib.cluster.overview, aya_lib.cli.main, aya_lib.runbook.book"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
