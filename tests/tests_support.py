"""Small pieces that several tests use."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import yaml
from psycopg import sql

from aya_lib import lab as labs
from aya_lib import settings
from aya_lib.cli import main as cli
from aya_lib.errors import AyaError
from aya_lib.lab import access, clusters, documents
from aya_lib.lab.new import new
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.runbook.run import RunResult
from aya_lib.site import Site, load_site, read_yaml


def fill(disk: Path) -> None:
    """Leave no room on a file system."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def record_cell(status: str) -> str:
    """A cell that writes a check and a verdict into the run's record."""
    return (
        "import os, pathlib\n"
        "from aya_lib.runbook.record import Record\n"
        "record = Record.load(pathlib.Path(os.environ['AYA_RECORD']))\n"
        f"record.add('check', name='a', status='{status}', expected='b', observed='c', hint='')\n"
        f"record.end('{status}', verdict={{'status': '{status}', 'line': record.content['runbook'] + ': the line'}})"
    )


def ended(result: RunResult) -> str:
    """The line below the title of the executed notebook."""
    first = nbformat.read(result.notebook, as_version=4).cells[0].source
    return str(first.splitlines()[2])


def make(place: Path, name: str, *, backend: str | None = None) -> Site:
    """Describe a lab called ``name`` below ``place``; nothing is started. ``backend``: of its embedding, else the model's."""
    file = settings.parameters() / name / "site.yaml"
    if not file.exists():
        new(name, place / name, like="model")
    if backend:
        content = read_yaml(file)
        content["embedding"]["backend"] = backend
        file.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_site(name)


def aya(*words: str) -> subprocess.CompletedProcess[str]:
    """What ``aya`` does with these words, in this process: its imports are paid for once."""
    out, error, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", ["aya", *words]), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), error.getvalue())


def scratch_databases(node: Node) -> list[str]:
    """The databases that benchmarks made on a node and have not dropped."""
    with node.session(database="postgres") as connection:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, 'aya_bench_')"
        return [str(row[0]) for row in connection.execute(query).fetchall()]


@dataclass
class Stepped:
    """A runbook whose cells were executed one by one in this process, as a person steps through them."""

    record: dict[str, Any]
    error: AyaError | None
    names: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """As ``aya run`` would give it."""
        return self.error.exit_code if self.error else 0 if self.record["outcome"] == "passed" else 1

    def check(self, name: str) -> dict[str, Any]:
        """The last record of a check."""
        found = [one for one in self.record["steps"] if one["kind"] == "check" and one["name"] == name]
        assert found, f"no check '{name}' among {sorted({one['name'] for one in self.record['steps'] if one['kind'] == 'check'})}"
        return dict(found[-1])

    @property
    def done(self) -> list[str]:
        """Titles of the changes that were carried out."""
        return [one["title"] for one in self.record["steps"] if one["kind"] == "change" and one["state"] == "done"]


def step(name: str, **values: Any) -> Stepped:
    """Execute a runbook's cells here, without a kernel: what papermill adds is tested once, and costs seconds each time."""
    names: dict[str, Any] = {"__name__": "__main__", "In": [""]}
    error: AyaError | None = None
    for cell in nbformat.read(settings.notebooks() / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type != "code":
            continue
        try:
            exec(compile(cell.source, name, "exec"), names)
        except AyaError as raised:
            error = raised
            break
        if "parameters" in cell.metadata.get("tags", []):
            names.update(values)
            names["In"].append("# Parameters\n" + "\n".join(f"{key} = {value!r}" for key, value in values.items()))
    record = names["runbook"].record.content if "runbook" in names else {"steps": []}
    return Stepped(record, error, names)


def passed(stepped: Stepped) -> Stepped:
    """Itself, when the runbook passed."""
    assert stepped.error is None, stepped.error
    assert stepped.record["outcome"] == "passed", stepped.record["verdict"]
    return stepped


def up(site: Site, *, embedding: bool = False) -> None:
    """Start a lab, a copy of one that was made once in this session, which costs a tenth of making it."""
    made = site.root.with_name("template")
    if not made.exists():
        template = make(made.parent, made.name)
        try:
            labs.up(template, embedding=documents.vectors(template, None) is None)  # with documents, also on a new machine
            _log_in_fast(template)
            labs.down(template)
        except BaseException:
            labs.delete(template)
            raise
    subprocess.run(["cp", "-a", f"{made}/.", site.root], check=True)
    nodes = open_nodes(site)
    for node in nodes.values():
        clusters.configure(node, node.data_directory)
        if (node.data_directory / "standby.signal").exists():
            clusters.follow(node, nodes[site.primary], node.data_directory)
    labs.up(site, embedding=embedding)


def _log_in_fast(site: Site) -> None:
    """Thousands of sessions are opened in tests, and of each a third would be hashing its password 4,096 times."""
    for node in (open_nodes(site)[name] for name in ("ALPHA", "AIR")):
        with node.session(write=True) as connection:
            connection.execute("SET scram_iterations = 1")
            for role, password in access.passwords(site).items():
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))


def again(site: Site, *, embedding: bool = False) -> None:
    """The lab as it was when it was new; its services do not come back of themselves."""
    labs.delete(site)
    up(site, embedding=embedding)


def only(node: Node) -> Nodes:
    """One node of a site, where the others do not matter."""
    return Nodes(node.site, {node.name: node})
