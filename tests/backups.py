"""Small pieces for tests of backups: what a repository holds, a proof, damage, age, and a run that is killed."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from aya_lib.backup import engine, look
from aya_lib.backup.records import Backup, Repository
from aya_lib.backup.verify import Verify
from aya_lib.node.node import Node, Nodes

KILLED = """
import os, signal, sys
from aya_lib.backup import engine
from aya_lib.node.node import open_nodes
from aya_lib.site import load_site
nodes = open_nodes(load_site(sys.argv[1]))
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
setattr(engine, sys.argv[2], die) if sys.argv[2] != "moment" else setattr(engine.mark, "moment", die)
engine.Make(sys.argv[3], "full", None, nodes["ALPHA"], nodes["ALPHA"]).run(nodes["BETA"])
"""


def repository(nodes: Nodes) -> Repository:
    found = look.look(nodes)
    assert isinstance(found, Repository), found
    return found


def newest(nodes: Nodes) -> Backup:
    return repository(nodes).backups[-1]


def verify(nodes: Nodes, label: str) -> Backup:
    Verify(label).run(nodes["BETA"])
    found = repository(nodes).backup(label)
    assert found
    return found


def flip(path: Path, place: int | None = None) -> None:
    """Turn one bit of a file, in its middle where no other place is named."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 if place is None else place)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def damages(one: Path, wal: Path, segment: str) -> dict[str, tuple[Path, str]]:
    """By its name, a file and how the verification speaks of it."""
    table = max((one / "data" / "base").rglob("[1-9]*"), key=lambda path: path.stat().st_size)
    return {
        "table": (table, "checksum mismatch"),
        "manifest": (one / "data" / "backup_manifest", "manifest"),
        "dump": (one / "dumps" / "aya_rag.dump", "dumps/aya_rag.dump"),
        "globals": (one / "dumps" / "globals.sql", "dumps/globals.sql"),
        "WAL": (next(wal.glob(f"{segment}*")), f"WAL: {segment}: "),
    }


def aged(keeper: Node, one: Backup, days: float) -> None:
    """Make a backup so many days older than it is."""
    assert one.mark
    past = timedelta(days=days)
    place = replace(one.mark.position, at=one.mark.position.at - past)
    engine.record(keeper, replace(one, began=one.began - past, ended=one.ended - past, mark=replace(one.mark, position=place)))
