"""Writing on both sides, killing a round at a chosen step, and comparing."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection as Pipe
from typing import Any

import psutil

from aya_lib.air import differ, fit
from aya_lib.air.fit import Columns
from aya_lib.air.link import SCHEMA_VERSION, open_ends, schema_version
from aya_lib.air.setup.actions import Prepare
from aya_lib.air.sync_round import Round, run_round
from aya_lib.air.triggers import Side
from aya_lib.errors import AyaError, SqlFailed
from aya_lib.node.node import Nodes
from aya_lib.node.sql import Connection, column

AYA = [sys.executable, "-m", "aya_lib"]
FORK = multiprocessing.get_context("fork")
Rows = list[tuple[Any, ...]]
VECTOR = "(SELECT array_agg((n * 7 + place) %% 11 / 10.0 ORDER BY place) FROM generate_series(0, 383) place)::vector"
CHUNKS = f"""
    INSERT INTO chunks (document_id, chunk_text, embedding, chunk_index)
    SELECT d.id, %s || ' part ' || n, {VECTOR}, n FROM generate_series(0, %s - 1) n, documents d WHERE d.id = %s ORDER BY n
    """.encode()
SAME_CHUNKS = f"""
    INSERT INTO chunks (document_id, chunk_text, embedding, chunk_index)
    SELECT d.id, 'part ' || n, {VECTOR.replace("n * 7", "7")}, n FROM generate_series(1, %s) n, documents d WHERE d.id = %s
    """.encode()
SENDING = "SELECT pid FROM pg_stat_progress_copy WHERE tuples_processed > 100"
STEPS = (
    "push: looked",
    "push: taken",
    "push: sent",
    "push: signed",
    "push: committed there",
    "push: acknowledged here",
    "pull: looked",
    "pull: staged documents",
    "pull: staged chunks",
    "pull: fetched",
    "pull: applied",
    "pull: committed here",
)


def ask(nodes: Nodes, name: str, text: str, *values: object) -> Rows:
    """Run a statement on a node and give its rows."""
    with nodes[name].session(write=True) as connection:
        done = connection.execute(text.encode(), values or None)
        return done.fetchall() if done.description else []


def aya(nodes: Nodes, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AYA, *words, "--site", nodes["AIR"].site.name], capture_output=True, text=True, timeout=60)


def one(nodes: Nodes, name: str, text: str, *values: object) -> Any:
    """The single value of a statement."""
    return ask(nodes, name, text, *values)[0][0]


def one_round(nodes: Nodes, at: Callable[[str], None] = lambda step: None) -> Round:
    """One whole round, without an encoder: documents that lack chunks are sent when they were given some."""
    with open_ends(nodes, "AIR") as ends:
        return run_round(ends, None, at)


def as_it_is(nodes: Nodes) -> None:
    """Let what waits here be sent without chunks."""
    ask(nodes, "AIR", "UPDATE write_queue SET needs_chunks = false WHERE NOT synced")


def offline(nodes: Nodes, *contents: str) -> None:
    """Documents on the laptop, to be sent without chunks."""
    for content in contents:
        ask(nodes, "AIR", "INSERT INTO documents (content) VALUES (%s)", content)
    as_it_is(nodes)


def texts(nodes: Nodes, name: str, *numbers: int) -> list[str]:
    """Of these documents, those that are there, by their ids."""
    return [row[0] for row in ask(nodes, name, "SELECT content FROM documents WHERE id = ANY (%s) ORDER BY id", list(numbers))]


def count(nodes: Nodes, name: str, pattern: str) -> int:
    """How many documents have a content like this."""
    return int(one(nodes, name, "SELECT count(*) FROM documents WHERE content LIKE %s", pattern))


def settle(nodes: Nodes) -> None:
    """Rounds until nothing is queued; documents that were written without a chunk are sent as they are."""
    as_it_is(nodes)
    one_round(nodes)
    one_round(nodes)


def prepare(nodes: Nodes) -> list[str]:
    """Give both sides the sync schema where it is missing or of another version; which nodes."""
    sides: list[tuple[Side, str]] = [("primary", "ALPHA"), ("laptop", "AIR")]
    lacking = []
    for side, name in sides:
        with nodes[name].session() as connection:
            current = schema_version(connection, side) == SCHEMA_VERSION
        if not current:
            Prepare(side).run(nodes[name])
            lacking.append(name)
    return lacking


def add(connection: Connection, content: str, parts: int = 2) -> int:
    """A document with its chunks in one transaction, as a client writes them; its id."""
    with connection.transaction():
        row = connection.execute("INSERT INTO documents (content) VALUES (%s) RETURNING id", (content,)).fetchone()
        assert row
        number = int(str(row[0]))
        rewrite(connection, number, content, parts)
    return number


def rewrite(connection: Connection, number: int, content: str, parts: int = 2) -> None:
    """Content and chunks of a document, anew."""
    connection.execute("UPDATE documents SET content = %s WHERE id = %s AND content <> %s", (content, number, content))
    connection.execute("DELETE FROM chunks WHERE document_id = %s", (number,))
    connection.execute(CHUNKS, (content, parts, number))


def writing(nodes: Nodes, name: str, content: str, parts: int = 2) -> int:
    """A document with chunks on a node; its id."""
    with nodes[name].session(write=True) as connection:
        return add(connection, content, parts)


def rewriting(nodes: Nodes, name: str, number: int, content: str) -> None:
    with nodes[name].session(write=True) as connection, connection.transaction():
        rewrite(connection, number, content)


def same(nodes: Nodes, primary: str = "ALPHA") -> list[tuple[tuple[str, int], str | None, str | None]]:
    """Rows that differ between the primary and AIR: (relation, id), there, here. Empty: equal, and nothing local is left."""
    sides = []
    with nodes[primary].session() as there, nodes["AIR"].session() as here:
        query = differ.hashed(Columns(fit.look(primary, "AIR", there, here)))
    for name in (primary, "AIR"):
        with nodes[name].session(deadline_s=60) as connection:
            rows = connection.execute(query).fetchall()
            sides.append({(str(relation), int(str(number))): str(hashed) for relation, number, hashed in rows})
    theirs, ours = sides
    with nodes["AIR"].session() as here:
        left = column(here, "SELECT id FROM documents WHERE id < 0 UNION ALL SELECT id FROM chunks WHERE id < 0")
    found = [(row, theirs.get(row), ours.get(row)) for row in sorted(differ.differing(ours, theirs))]
    return found + [(("local", number), None, "left") for number in left]


def killed(nodes: Nodes, step: str, after: int) -> str:
    """A round in a process of its own that is killed when it reaches ``step`` (or any, when '') for the ``after``-th time; the
    step's name, or '' when it ended before. For a step that is named there are more rounds: writers may have been too slow."""
    ours, theirs = FORK.Pipe(duplex=False)

    def child() -> None:
        count = 0

        def at(reached: str) -> None:
            nonlocal count
            count += step in ("", reached)
            if count == after:
                theirs.send(reached)
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            for _ in range(10 if step else 1):
                one_round(nodes, at)
            theirs.send("")
        except AyaError as error:
            theirs.send(f"error: {error}")
        os._exit(0)

    process = FORK.Process(target=child)
    process.start()
    said = str(ours.recv()) if ours.poll(300) else "nothing"
    process.join(30)
    return said


def many(nodes: Nodes, mark: str, count: int = 12_000) -> None:
    """More on the primary than the buffers of a connection hold."""
    with nodes["ALPHA"].session(write=True, deadline_s=60) as alpha:
        alpha.execute("DROP INDEX IF EXISTS idx_chunks_embedding")
        alpha.execute(SAME_CHUNKS, (count, add(alpha, mark, 0)))


@contextmanager
def copying(nodes: Nodes, act: Callable[[psutil.Process, Callable[[], bool]], None]) -> Iterator[None]:
    """When the primary is in the middle of sending a large COPY, act on its process, once; ``act`` may ask whether it still is.
    The process is resumed at the end."""
    stop = threading.Event()
    acted: list[psutil.Process] = []

    def watch() -> None:
        with nodes["ALPHA"].session(deadline_s=60) as alpha:
            while not stop.is_set():
                if row := alpha.execute(SENDING).fetchone():
                    acted.append(psutil.Process(int(str(row[0]))))
                    return act(acted[0], lambda: bool(alpha.execute(SENDING).fetchone()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
        assert acted, "the copy was over before it was seen"
    finally:
        stop.set()
        watcher.join()
        for process in acted:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def writers(nodes: Nodes, seed: int) -> Iterator[Callable[[], dict[str, dict[str, str | None]]]]:
    """Writers on both sides, each on documents of its own; call to stop them: side -> mark of a document -> its last content
    (None: deleted)."""
    stop = FORK.Event()
    pipes: dict[str, Pipe] = {}
    processes = []
    for name in ("ALPHA", "AIR"):
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_write, args=(nodes, name, seed, stop, theirs))
        process.start()
        processes.append(process)
        pipes[name] = ours

    def end() -> dict[str, dict[str, str | None]]:
        stop.set()
        return {name: pipe.recv() for name, pipe in pipes.items()}

    try:
        yield end
    finally:
        stop.set()
        for process in processes:
            process.join(20)


def _write(nodes: Nodes, name: str, seed: int, stop: Any, out: Pipe) -> None:
    draw = random.Random(f"{seed}{name}")
    last: dict[str, str | None] = {}
    count = 0
    while not stop.is_set():
        try:
            with nodes[name].session(write=True, deadline_s=600) as connection:
                while not stop.is_set():
                    count += 1
                    _step(connection, draw, f"{name.lower()}-{seed}-{count}", last)
                    time.sleep(draw.random() * 0.02)
        except SqlFailed as error:
            if error.sqlstate not in ("40P01", "55P03"):  # a deadlock or a lock timeout: rolled back, and tried otherwise
                raise
    out.send(last)
    out.close()


def _step(connection: Connection, draw: random.Random, mark: str, last: dict[str, str | None]) -> None:
    alive = [one for one, content in last.items() if content is not None]
    what = draw.random()
    if what < 0.4 or not alive:
        with connection.transaction():
            add(connection, f"{mark}|0", draw.randint(0, 3))
            if draw.random() < 0.2:
                time.sleep(0.1)  # it commits after others that began later
        last[mark] = f"{mark}|0"
        return
    chosen = draw.choice(alive)
    with connection.transaction():
        row = connection.execute("SELECT id FROM documents WHERE content LIKE %s FOR UPDATE", (f"{chosen}|%",)).fetchone()
        assert row, f"{chosen} is gone"
        if what < 0.85:
            content: str | None = f"{chosen}|{mark}"
            rewrite(connection, int(str(row[0])), str(content), draw.randint(0, 3))
        else:
            content = None
            connection.execute("DELETE FROM documents WHERE id = %s", (row[0],))
    last[chosen] = content
