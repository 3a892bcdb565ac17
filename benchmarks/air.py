"""The laptop's synchronisation in figures, each beside what it is compared with, in one run.

    python benchmarks/air.py [copy] [catchup] [visible] [compared] [kills] [--kills N]

copy: the first copy of 30,000 chunks x 768 beside `COPY ... TO STDOUT | COPY ... FROM STDIN` into a database with the same
tables. catchup: 10,000 changed rows beside PostgreSQL's own logical replication. visible: from a commit to its row on the
laptop, and what the daemon takes while nothing happens. compared: what air_sync_check reads. kills: rounds killed at every
step while both sides write. About 6 minutes on two cores; results are merged into air.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml
from psycopg import sql

from aya_lib import lab as labs
from aya_lib import schema as schemas
from aya_lib import settings
from aya_lib.air import sync_check
from aya_lib.lab import access
from aya_lib.lab.new import new
from aya_lib.node import wait
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.runbook.refresh import model_site
from aya_lib.site import load_site, read_yaml
from aya_lib.vectors import wire
from aya_lib.vectors.generated import generate, parse

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from air_work import STEPS, ask, killed, one, one_round, prepare, same, writers  # as the tests do it, more often

RESULTS = Path(__file__).with_suffix(".json")
CHUNKS, DIMENSION, PARTS = 30_000, 768, 10
CHANGED, TURNS, RUNS = 10_000, 5, 3
COMMITS, IDLE_S = 200, 60.0


@contextmanager
def lab(folder: Path) -> Iterator[Nodes]:
    folder.chmod(0o755)
    os.environ |= {"AYA_PARAMETERS": str(model_site(folder)), "AYA_RUNS": f"{folder}/runs", "AYA_CACHE": f"{folder}/cache"}
    new("lab", folder / "lab", like="model")
    path = settings.parameters() / "lab" / "site.yaml"
    content = read_yaml(path)
    content["embedding"] |= {"dimension": DIMENSION, "model": "none", "sha256": {}}
    for node in content["nodes"].values():
        node.pop("embedding", None)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    site = load_site("lab")
    try:
        labs.up(site, embedding=False)
        nodes = open_nodes(site)
        prepare(nodes)
        fill(nodes)
        yield nodes
    finally:
        labs.delete(site)


def fill(nodes: Nodes) -> None:
    vectors = generate(parse(f"generated:{CHUNKS}x{DIMENSION}"))
    with nodes["ALPHA"].session(write=True, deadline_s=300) as alpha, alpha.transaction():
        words = "repeat('words of a document that somebody wrote ', 30)"
        alpha.execute(
            f"INSERT INTO documents (content) SELECT n || {words} FROM generate_series(1, {CHUNKS // PARTS}) n".encode()
        )
        alpha.execute("CREATE TEMP TABLE given (id int4, embedding vector) ON COMMIT DROP")
        with alpha.cursor() as cursor, cursor.copy("COPY given FROM STDIN (FORMAT binary)") as copy:
            for block in wire.copy_in(vectors):
                copy.write(block)
        alpha.execute(
            f"INSERT INTO chunks (document_id, chunk_text, chunk_index, embedding) SELECT 1 + id / {PARTS}, id || ' ' ||"
            f" repeat('words of a passage that is found ', 20), id % {PARTS}, embedding FROM given".encode()
        )


def beside(nodes: Nodes, database: str) -> None:
    """A database on the laptop's cluster with the same tables and triggers, but for the synchronisation's own."""
    node = nodes["AIR"]
    with node.session(database="postgres", write=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    with node.session(database=database, write=True, deadline_s=60) as connection:
        schemas.create(connection, node.site)
        connection.execute("ALTER TABLE documents ADD COLUMN version bigint NOT NULL DEFAULT 1")


def copy(nodes: Nodes) -> dict[str, Any]:
    """Both ways in turn, the laptop emptied before each; indexes on vectors are built after it in neither."""
    ours, pipes = [], []
    for number in range(3):
        database = f"plain_{number}"
        beside(nodes, database)
        pipes.append(pipe(nodes, database))
        ask(nodes, "AIR", "BEGIN; SET LOCAL aya.applying = 'on'; DELETE FROM documents; COMMIT")
        ask(nodes, "AIR", "UPDATE aya_sync.laptop SET phase = 'new', copied_documents = 0, copied_chunks = 0")
        with nodes["AIR"].session(write=True, deadline_s=60) as air:
            air.execute("VACUUM FULL documents, chunks")
        began = time.perf_counter()
        one_round(nodes)
        ours.append(time.perf_counter() - began)
    assert same(nodes) == []
    return {
        "rows": CHUNKS,
        "first_copy_s": [round(seconds, 2) for seconds in ours],
        "copy_to_copy_s": [round(seconds, 2) for seconds in pipes],
        "speed_ratio": round(statistics.median(pipes) / statistics.median(ours), 2),
    }


def pipe(nodes: Nodes, database: str) -> float:
    environment = {**os.environ, "PGPASSFILE": str(access.passfile(nodes["AIR"].site))}

    def psql(name: str, base: str, text: str) -> list[str]:
        config = nodes[name].config
        where = f"host={config.host} port={config.postgresql.port} user=postgres dbname={base}"
        return nodes[name].command("psql", "-qXd", where, "-c", text)

    began = time.perf_counter()
    for table, columns in (
        ("documents", "id, content, metadata, category, source, created_at, updated_at, source_uri, content_hash, version"),
        ("chunks", "id, document_id, chunk_text, embedding, chunk_index, metadata, created_at"),
    ):
        reading = psql("ALPHA", nodes["ALPHA"].site.database.name, f"COPY {table} ({columns}) TO STDOUT")
        writing = psql("AIR", database, f"COPY {table} ({columns}) FROM STDIN")
        with subprocess.Popen(reading, stdout=subprocess.PIPE, env=environment) as source:
            subprocess.run(writing, stdin=source.stdout, env=environment, check=True)
    return time.perf_counter() - began


def catchup(nodes: Nodes) -> dict[str, Any]:
    """10,000 chunks changed in 100 transactions while neither listens; then each catches up."""
    database = "native"
    one_round(nodes)
    beside(nodes, database)
    password = secrets.token_urlsafe(24)
    with nodes["ALPHA"].session(write=True) as alpha:
        alpha.execute(sql.SQL("CREATE ROLE native SUPERUSER REPLICATION LOGIN PASSWORD {}").format(sql.Literal(password)))
        alpha.execute("CREATE PUBLICATION native FOR TABLE documents, chunks")
    config = nodes["ALPHA"].config
    where = (
        f"host={config.host} port={config.postgresql.port} dbname={nodes['ALPHA'].site.database.name} "
        f"user=native password={password}"
    )
    ours, native = [], []
    with nodes["AIR"].session(database=database, write=True, deadline_s=600) as air:
        air.execute("ALTER TABLE chunks DROP COLUMN chunk_terms CASCADE")  # the publication has it, this need not
        air.execute("ALTER TABLE chunks ADD COLUMN chunk_terms tsvector")
        air.execute(sql.SQL("CREATE SUBSCRIPTION native CONNECTION {} PUBLICATION native").format(sql.Literal(where)))
        settled(air, "SELECT count(*) = 2 FROM pg_subscription_rel WHERE srsubstate = 'r'")
        for number in range(TURNS):
            air.execute("ALTER SUBSCRIPTION native DISABLE")
            settled(air, "SELECT count(*) = 0 FROM pg_stat_subscription WHERE pid IS NOT NULL")
            change(nodes, number)
            began = time.perf_counter()
            air.execute("ALTER SUBSCRIPTION native ENABLE")
            settled(air, f"SELECT count(*) = {CHANGED} FROM chunks WHERE metadata ->> 'turn' = '{number}'")
            native.append(time.perf_counter() - began)
            began = time.perf_counter()
            assert one_round(nodes).pulled.rows == CHANGED
            ours.append(time.perf_counter() - began)
        air.execute("DROP SUBSCRIPTION native")
    ask(nodes, "ALPHA", "DROP PUBLICATION native")
    assert same(nodes) == []
    return {
        "rows": CHANGED,
        "ours_s": [round(seconds, 2) for seconds in ours],
        "native_s": [round(seconds, 2) for seconds in native],
        "time_ratio": round(statistics.median(ours) / statistics.median(native), 2),
    }


def settled(connection: Any, query: str) -> None:
    while not connection.execute(query).fetchone()[0]:
        time.sleep(0.02)


def change(nodes: Nodes, number: int) -> None:
    with nodes["ALPHA"].session(write=True, deadline_s=120) as alpha:
        ids = [row[0] for row in alpha.execute("SELECT id FROM chunks ORDER BY id LIMIT %s", (CHANGED,)).fetchall()]
        for start in range(0, CHANGED, 100):
            query = "UPDATE chunks SET metadata = jsonb_build_object('turn', %s::text) WHERE id = ANY (%s)"
            alpha.execute(query, (str(number), ids[start : start + 100]))


def visible(nodes: Nodes) -> dict[str, Any]:
    """The daemon at work: milliseconds from the end of a commit to its row on the laptop; then a minute of nothing."""
    command = [sys.executable, "-m", "aya_lib", "serve", "sync", "--site", "lab"]
    process = subprocess.Popen(command)
    found = []
    try:
        with nodes["ALPHA"].session(write=True, deadline_s=300) as alpha, nodes["AIR"].session(deadline_s=300) as air:
            there = "SELECT FROM documents WHERE content = %s"
            for number in range(COMMITS + 5):
                alpha.execute("INSERT INTO documents (content) VALUES (%s)", (f"commit {number}",))
                began = time.perf_counter()
                wait.until(
                    lambda number=number: air.execute(there, (f"commit {number}",)).rowcount,  # type: ignore[misc]
                    bool,
                    node="AIR",
                    what="the row",
                    deadline_s=30,
                    poll_s=0.001,
                )
                found.append((time.perf_counter() - began) * 1000)
                time.sleep(0.05)
        time.sleep(3)
        watched = psutil.Process(process.pid)
        before = sum(watched.cpu_times()[:2])
        time.sleep(IDLE_S)
        idle = (sum(watched.cpu_times()[:2]) - before) / IDLE_S
    finally:
        process.terminate()
        process.wait(30)
    found = sorted(found[5:])
    return {
        "commits": COMMITS,
        "visible_ms": {"p50": round(found[len(found) // 2], 1), "p95": round(found[int(len(found) * 0.95)], 1)},
        "idle_share_of_a_core": round(idle, 5),
    }


def compared(nodes: Nodes) -> dict[str, Any]:
    """What air_sync_check reads: every row's hash on both sides, one sum for a thousand ids over the line."""
    one_round(nodes)
    seconds = []
    for _ in range(RUNS):
        started = time.monotonic()
        found = sync_check.look(nodes)
        seconds.append(round(time.monotonic() - started, 2))
    assert isinstance(found, sync_check.Comparison), found
    assert found.differences == ()
    rows = sum(there for there, _ in found.compared.counts.values())
    return {"rows": rows, "ranges": found.compared.ranges, "seconds": sorted(seconds)}


def kills(nodes: Nodes, count: int) -> dict[str, Any]:
    """Rounds killed at a step by name or at random, under writes on both sides; then both sides are compared."""
    draw = random.Random(7)
    reached: dict[str, int] = {}
    began = time.perf_counter()
    with writers(nodes, seed=7) as end:
        for number in range(count):
            step = STEPS[number % len(STEPS)] if number % 2 else ""
            where = killed(nodes, step, 1 if step else draw.randint(1, 60))
            assert not where.startswith(("nothing", "error")), where
            reached[where or "ended before"] = reached.get(where or "ended before", 0) + 1
        last = end()
    ask(nodes, "AIR", "UPDATE write_queue SET needs_chunks = false WHERE NOT synced")
    one_round(nodes)
    one_round(nodes)
    expected = sorted(content for marks in last.values() for content in marks.values() if content is not None)
    there = sorted(row[0] for row in ask(nodes, "ALPHA", "SELECT content FROM documents WHERE content LIKE '%|%'"))
    return {
        "rounds": count,
        "killed_at": dict(sorted(reached.items())),
        "seconds": round(time.perf_counter() - began, 1),
        "documents_written": sum(len(marks) for marks in last.values()),
        "lost": len(set(expected) - set(there)),
        "doubled": len(there) - len(set(there)),
        "differing_rows": len(same(nodes)),
        "conflicts": one(nodes, "AIR", "SELECT count(*) FROM aya_sync.conflicts"),
    }


def keep(out: Path, name: str, value: dict[str, Any]) -> None:
    found = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps(found | {name: value}, indent=1) + "\n")
    print(name, json.dumps(value, indent=1), file=sys.stderr, flush=True)


def main() -> None:
    parts = ["copy", "catchup", "visible", "compared", "kills"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=" ".join(parts))
    parser.add_argument("--kills", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    wanted = given.parts or parts
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as folder, lab(Path(folder)) as nodes:
        for name, part in (("copy", copy), ("catchup", catchup), ("visible", visible), ("compared", compared)):
            if name in wanted:
                keep(given.out, name, part(nodes))
        if "kills" in wanted:
            keep(given.out, "kills", kills(nodes, given.kills))


if __name__ == "__main__":
    main()
