"""Small pieces that several tests use."""

from __future__ import annotations

from pathlib import Path

import nbformat

from aya_lib import settings
from aya_lib.lab.new import new
from aya_lib.node.node import Node
from aya_lib.runbook.run import RunResult
from aya_lib.site import Site, load_site


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


def make(place: Path, name: str) -> Site:
    """Describe a lab called ``name`` below ``place``; nothing is started."""
    if (settings.parameters() / name).exists():
        return load_site(name)
    return new(name, place / name, like="model")


def scratch_databases(node: Node) -> list[str]:
    """The databases that benchmarks made on a node and have not dropped."""
    with node.session(database="postgres") as connection:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, 'aya_bench_')"
        return [str(row[0]) for row in connection.execute(query).fetchall()]
