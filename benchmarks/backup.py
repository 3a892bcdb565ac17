"""Backups of 1 GB of vectors beside PostgreSQL's own programs: full, incremental, restore, what a primary feels of it.

``python benchmarks/backup.py [MB [ROUNDS]]`` prints a table and keeps it in benchmarks/backup.json. It uses a lab of its
own, on a disk, and counts ratios within a round.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg

from aya_lib import lab as labs
from aya_lib.backup import engine, mark, replay
from aya_lib.backup.chain import links, locate
from aya_lib.backup.look import folder, look
from aya_lib.backup.records import Backup, Repository
from aya_lib.cluster.lsn import number as number_of
from aya_lib.cluster.replication import source_conninfo
from aya_lib.lab.new import new
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.runbook.refresh import model_site

RESULTS = Path(__file__).with_suffix(".json")
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
READ_S = 6.0  # for one figure of queries per second
RATE_MB_S = 40  # of the round with a limit


def fill(node: Node, megabytes: int) -> None:
    """Vectors of 768 dimensions, 3 kB each, that do not compress."""
    with node.session(write=True, deadline_s=1800) as connection:
        connection.execute("SET synchronous_commit = off; SET statement_timeout = 0")
        connection.execute("CREATE TABLE bench_vectors (id bigint PRIMARY KEY, n int DEFAULT 0, embedding vector(768) NOT NULL)")
        connection.execute("ALTER TABLE bench_vectors ALTER embedding SET STORAGE plain")
        made = "(SELECT array_agg(random()::real) FROM generate_series(1, 768) WHERE g IS NOT NULL)::vector"
        for start in range(0, megabytes * 250, 10_000):
            end = min(start + 10_000, megabytes * 250) - 1
            connection.execute(f"INSERT INTO bench_vectors SELECT g, 0, {made} FROM generate_series({start}, {end}) g".encode())
        connection.execute("VACUUM (FREEZE, ANALYZE) bench_vectors")  # as rows are that were not just loaded
        connection.execute("CHECKPOINT")


def change(node: Node, percent: int) -> None:
    """Change every so-many-th row: random places, as a working day does it."""
    with node.session(write=True, deadline_s=600) as connection:
        connection.execute("UPDATE bench_vectors SET n = n + 1 WHERE hashint8(id) %% 100 < %s AND hashint8(id) > 0", (percent,))
        connection.execute("CHECKPOINT")


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def repository(nodes: Nodes) -> Repository:
    found = look(nodes)
    assert isinstance(found, Repository), found
    return found


def backup(nodes: Nodes, kind: str, parent: Backup | None, number: int) -> tuple[Backup, float]:
    """A backup without a dump, as an engine makes it, its mark included; its seconds."""
    alpha, beta = nodes["ALPHA"], nodes["BETA"]
    label = f"20260101T0000{number:02}Z-{kind}"
    made = engine.Make(label, kind, parent.label if parent else None, alpha, alpha, dump=False)  # type: ignore[arg-type]
    took = seconds(lambda: made.run(beta))
    return next(one for one in repository(nodes).backups if one.label == label), took


def bare(nodes: Nodes, where: Path) -> float:
    """pg_basebackup alone, with the same options."""
    beta = nodes["BETA"]
    words = ["-D", str(where), "-d", source_conninfo(beta, nodes["ALPHA"], "bench"), "-w", "-X", "stream", "-c", "fast"]
    try:
        return seconds(lambda: beta.postgresql("pg_basebackup", *words, timeout_s=1800).checked())
    finally:
        shutil.rmtree(where, ignore_errors=True)


def _reaches(seen: Repository, one: Backup) -> bool:
    """All WAL up to the backup's mark is received."""
    return bool(seen.flushed and one.mark and number_of(seen.flushed.lsn) >= number_of(one.mark.position.lsn))


def copied(keeper: Node, source: Path, where: Path) -> float:
    """cp -a and sync: what a restore cannot be faster than."""
    words = ["sh", "-c", 'cp -a "$1" "$2" && sync', "sh", str(source), str(where)]
    try:
        return seconds(lambda: keeper.shell.run(words, timeout_s=1800, account=keeper.account).checked())
    finally:
        shutil.rmtree(where, ignore_errors=True)


def restored(nodes: Nodes, found: Repository, one: Backup, where: Path) -> dict[str, float]:
    """Seconds to put the data directory together, and until it stands at the backup's mark."""
    beta = nodes["BETA"]
    assert one.mark
    _, target = locate(found, one.mark.name, one.label)
    told = {"put together": seconds(lambda: replay.restore(beta, found, one, target, where))}
    began = time.perf_counter()
    with replay.scratch(beta, where):
        told["replayed to the mark"] = time.perf_counter() - began
    shutil.rmtree(where, ignore_errors=True)
    return told


class Queries:
    """One client that searches the primary without a pause."""

    def __init__(self, node: Node) -> None:
        self.done, self._end = 0, threading.Event()
        self._node = node
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        config, database = self._node.config, self._node.site.database
        passfile = str(self._node.site.path(database.passfile)) if database.passfile else None
        where = {"host": config.host, "port": config.postgresql.port, "dbname": database.name, "user": database.owner}
        with psycopg.connect(**where, passfile=passfile, autocommit=True) as connection:  # type: ignore[arg-type]
            while not self._end.is_set():
                key = self.done * 7919 % 100_000
                connection.execute("SELECT embedding <=> embedding FROM bench_vectors WHERE id = %s", (key,))
                self.done += 1

    def rate(self, act: Callable[[], object]) -> float:
        """Queries a second while ``act`` runs."""
        self._thread.start()
        try:
            before, began = self.done, time.perf_counter()
            act()
            return (self.done - before) / (time.perf_counter() - began)
        finally:
            self._end.set()
            self._thread.join()


def felt(nodes: Nodes, number: int) -> dict[str, float]:
    """Queries a second on the primary: idle, beside a full backup, and beside one with a limit of its rate."""
    alpha, site = nodes["ALPHA"], nodes.site
    assert site.backup
    idle = Queries(alpha).rate(lambda: time.sleep(READ_S))
    free = Queries(alpha).rate(lambda: backup(nodes, "full", None, number))
    limited = site.model_copy(update={"backup": site.backup.model_copy(update={"rate_mb_s": RATE_MB_S})})
    slowly = Nodes(limited, {name: replace(node, site=limited) for name, node in nodes.items()})
    held = Queries(alpha).rate(lambda: backup(slowly, "full", None, number + 1))
    return {"full: queries beside it / idle": free / idle, f"full at {RATE_MB_S} MB/s: queries / idle": held / idle}


def one_round(nodes: Nodes, number: int, scratch: Path) -> dict[str, float]:
    alpha, beta = nodes["ALPHA"], nodes["BETA"]
    told: dict[str, float] = {}
    alone = bare(nodes, scratch / "bare")
    full, took = backup(nodes, "full", None, number)
    marked = seconds(lambda: mark.make(alpha, f"bench-{number}"))
    told["full with its mark / bare pg_basebackup, time"] = took / alone
    told["full without its mark / bare pg_basebackup, time"] = (took - marked) / alone
    change(alpha, 2)  # of the rows with a positive hash: 1 % of all
    part, took_part = backup(nodes, "incremental", full, number + 1)
    told["incremental after 1 % / full, time, both without marks"] = (took_part - marked) / (took - marked)
    told["incremental after 1 % / full, bytes"] = part.bytes / full.bytes
    found = wait.until(
        lambda: repository(nodes),
        lambda seen: _reaches(seen, part),
        node="BETA",
        what="WAL up to the mark is received",
        deadline_s=120,
    )
    whole = copied(beta, folder(nodes.site) / "backups" / full.label / "data", scratch / "copy")
    for name, one in (("full", full), ("incremental", part)):
        assert links(found, one)
        for phase, value in restored(nodes, found, one, scratch / "restored").items():
            told[f"restore of a {name} one, {phase} / bare copy"] = value / whole
    told |= felt(nodes, number + 2)
    return told


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as made:
        place = Path(made)
        place.chmod(0o755)
        os.environ |= {"AYA_PARAMETERS": str(model_site(place)), "AYA_RUNS": str(place / "runs")}
        site = new("lab", place / "lab", like="model")
        try:
            labs.up(site, embedding=False)
            nodes = open_nodes(site)
            with nodes["ALPHA"].session(database="postgres", write=True) as connection:
                connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = -1")
                connection.execute("ALTER SYSTEM SET summarize_wal = on")
                connection.execute("SELECT pg_reload_conf()")
            fill(nodes["ALPHA"], megabytes)
            source = engine.look_source(nodes["ALPHA"])
            engine.Begin(source.system_identifier, source.segment_bytes).run(nodes["BETA"])
            nodes["BETA"].supervisor.start("wal")
            wait.until(
                lambda: repository(nodes).receiver.state,
                lambda state: state == "receiving",
                node="BETA",
                what="WAL is received",
                deadline_s=60,
            )
            scratch = site.root / "beta" / "bench"
            nodes["BETA"].shell.run(["mkdir", "-p", str(scratch)], account=nodes["BETA"].account).checked()
            rounds = [one_round(nodes, 10 * number, scratch) for number in range(ROUNDS)]
        finally:
            labs.delete(site)
    table = {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}
    for name, value in table.items():
        print(f"{name:70} {value:8.3f}")
    machine = {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}
    RESULTS.write_text(
        json.dumps({"machine": machine, "megabytes": megabytes, "rounds": ROUNDS, "median": table}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
