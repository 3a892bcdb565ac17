"""The daemon as it is run: hears both sides, writes chunks for plain SQL, goes offline and comes back, ends in order."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from air_work import AYA, ask, aya, count, one, one_round, prepare, same
from tests_support import make, passed, step, up

from aya_lib import lab as labs
from aya_lib.air import chunk_writer
from aya_lib.air import daemon as program
from aya_lib.air.chunk_writer import ChunkWriter
from aya_lib.air.setup.actions import password
from aya_lib.air.status import hung
from aya_lib.air.status import look as look_status
from aya_lib.lab import faults
from aya_lib.node import wait
from aya_lib.node.node import Nodes, open_nodes


@pytest.fixture(scope="module")
def daemon(place: Path) -> Iterator[tuple[Nodes, subprocess.Popen[str]]]:
    """A lab with an embedding service, and the daemon of its laptop."""
    site = make(place, "air-daemon")
    process: subprocess.Popen[str] | None = None
    try:
        up(site, embedding=True)
        nodes = open_nodes(site)
        prepare(nodes)
        process = subprocess.Popen([*AYA, "serve", "sync", "--site", site.name], text=True, stderr=subprocess.PIPE)
        until(lambda: status(nodes)["online"], "the daemon is online")
        yield nodes, process
    finally:
        if process and process.poll() is None:
            process.kill()
            process.wait()
        labs.delete(site)


def until(look: Callable[[], Any], what: str) -> None:
    wait.until(look, bool, node="AIR", what=what, deadline_s=60, poll_s=0.05)


def status(nodes: Nodes) -> dict[str, Any]:
    """As ``aya air status --json`` prints it, which takes a second of the processor's time for Python to start."""
    return look_status(nodes["AIR"].site).json()


def test_what_changes_on_either_side_is_carried_without_waiting_for_the_poll(daemon: tuple[Nodes, Any]) -> None:
    nodes, _ = daemon
    ask(nodes, "ALPHA", "INSERT INTO documents (content) VALUES ('from the primary')")
    until(lambda: count(nodes, "AIR", "from the primary"), "it is here")
    ask(nodes, "AIR", "INSERT INTO documents (content) VALUES ('Plain SQL on the laptop. It has no chunks yet.')")
    text = "SELECT count(embedding) FROM documents d JOIN chunks c ON c.document_id = d.id WHERE d.content LIKE 'Plain%'"
    until(lambda: one(nodes, "ALPHA", text), "it is there, with chunks and embeddings")
    ask(nodes, "AIR", "INSERT INTO documents (content) VALUES (repeat('การสำรองข้อมูล', 9))")
    unread = "SELECT count(*) - count(embedding) FROM chunks WHERE metadata ? 'no_vector'"
    until(lambda: one(nodes, "ALPHA", unread), "a script that the model does not know has words and no vector")
    until(lambda: same(nodes) == [], "both sides are equal")


def test_a_second_daemon_is_refused_and_a_round_on_request_wakes_the_first(daemon: tuple[Nodes, Any]) -> None:
    nodes, _ = daemon
    second = aya(nodes, "serve", "sync")
    assert second.returncode == 3
    assert "another process synchronises air-daemon already" in second.stderr
    assert "the daemon ended a round" in aya(nodes, "air", "sync-now").stdout


def test_what_was_refused_is_listed_with_its_reason_and_sent_again_on_request(daemon: tuple[Nodes, Any]) -> None:
    nodes, _ = daemon
    assert aya(nodes, "air", "refused").stdout == "Nothing was refused.\n"
    ask(nodes, "ALPHA", "ALTER TABLE documents ADD CONSTRAINT polite CHECK (content <> 'rude') NOT VALID")
    ask(nodes, "AIR", "INSERT INTO documents (content) VALUES ('rude')")
    until(lambda: status(nodes)["dead"], "it is refused")
    assert 'constraint "polite"' in " ".join(aya(nodes, "air", "refused").stdout.split())
    assert aya(nodes, "air", "status").returncode == 1
    ask(nodes, "ALPHA", "ALTER TABLE documents DROP CONSTRAINT polite")
    number = one(nodes, "AIR", "SELECT id FROM write_queue WHERE state = 'dead'")
    wrong = aya(nodes, "air", "retry", str(number + 1))
    assert (wrong.returncode, wrong.stderr) == (2, f"aya: no refused mutation {number + 1}. There are: {number}\n")
    assert "is queued again" in aya(nodes, "air", "retry", str(number)).stdout
    until(lambda: count(nodes, "ALPHA", "rude"), "it is there")
    assert aya(nodes, "air", "conflicts").stdout == "No version lost against the primary's.\n"
    assert json.loads(aya(nodes, "air", "conflicts", "--json").stdout)["conflicts"] == []


def test_a_daemon_that_is_stopped_or_silent_is_never_called_well_and_goes_on_afterwards(
    daemon: tuple[Nodes, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, process = daemon
    until(lambda: not status(nodes)["hung"] and aya(nodes, "air", "status").returncode == 0, "all is well")
    process.send_signal(signal.SIGSTOP)
    try:
        shown, asked = aya(nodes, "air", "status"), aya(nodes, "air", "sync-now")
        assert (shown.returncode, asked.returncode) == (1, 1)
        for said in (shown.stdout, asked.stderr):
            assert f"the daemon is stopped. Run: kill -CONT {process.pid}" in " ".join(said.split())
    finally:
        process.send_signal(signal.SIGCONT)
    state = look_status(nodes["AIR"].site).daemon
    assert state
    assert hung(state) == ""
    monkeypatch.setattr("aya_lib.air.status.SILENT_S", -1.0)
    assert "no sign of life from the daemon for" in hung(state)


def test_offline_it_says_so_keeps_what_is_written_and_sends_it_when_the_primary_is_back(daemon: tuple[Nodes, Any]) -> None:
    nodes, _ = daemon
    faults.inject(nodes["AIR"].site, "alpha-down")
    until(lambda: not status(nodes)["online"], "the daemon says that it is offline")
    ask(nodes, "AIR", "INSERT INTO documents (content) VALUES ('Written while offline.')")
    until(lambda: status(nodes)["without_chunks"] == 0 and status(nodes)["queued"] == 1, "it can be searched here")
    shown = aya(nodes, "air", "status")
    assert shown.returncode == 1
    assert "offline" in shown.stdout
    nodes["ALPHA"].supervisor.start("postgresql")
    until(lambda: count(nodes, "ALPHA", "Written while offline."), "it is there")
    until(lambda: same(nodes) == [], "both sides are equal")
    assert aya(nodes, "air", "status").returncode == 0


def test_a_password_that_is_wrong_or_a_database_that_is_gone_is_named_and_gone_on_from(daemon: tuple[Nodes, Any]) -> None:
    nodes, _ = daemon
    right = password(nodes["ALPHA"], "postgres").reveal()
    change = "ALTER ROLE postgres PASSWORD '{}'"

    def said() -> str:
        return str(status(nodes)["last_error"])

    with nodes["ALPHA"].session(write=True, deadline_s=60) as still_open:
        still_open.execute(change.format("rotated").encode())
        try:
            ask(nodes, "AIR", "INSERT INTO documents (content) VALUES ('While locked out.')")
            until(lambda: "no valid password for role postgres. Put it into ~/.pgpass" in said(), "the password is named")
            assert "Run restore" not in said()
            assert not status(nodes)["online"]
        finally:
            still_open.execute(change.format(right).encode())
    until(lambda: count(nodes, "ALPHA", "While locked out."), "it is there")
    rename = "ALTER DATABASE {} RENAME TO {}"
    with nodes["AIR"].session(database="postgres", write=True, deadline_s=60) as beside:
        beside.execute("ALTER DATABASE aya_rag ALLOW_CONNECTIONS false")
        beside.execute("SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = 'aya_rag'")
        beside.execute(rename.format("aya_rag", "gone").encode())
        try:
            until(lambda: 'database "aya_rag" does not exist' in said(), "the database is named")
        finally:
            beside.execute(rename.format("gone", "aya_rag").encode())
            beside.execute("ALTER DATABASE aya_rag ALLOW_CONNECTIONS true")
    until(lambda: status(nodes)["online"], "it is online again")


def test_it_follows_a_failover_while_both_sides_are_written(daemon: tuple[Nodes, Any]) -> None:
    nodes, process = daemon
    site = nodes["AIR"].site
    written = 0

    def write() -> None:
        nonlocal written
        written += 1
        ask(nodes, "AIR", f"INSERT INTO documents (content) VALUES ('over the failover {written}')")

    write()
    passed(step("failover", site=site.name, reason="a test"))
    write()
    ask(nodes, "BETA", "INSERT INTO documents (content) VALUES ('made by the new primary')")
    until(lambda: status(nodes)["primary"] == "BETA" and status(nodes)["online"], "it speaks with the new primary")
    write()
    query = "SELECT count(DISTINCT d.id), count(*) FROM documents d JOIN chunks c ON c.document_id = d.id WHERE d.content LIKE %s"
    until(lambda: ask(nodes, "BETA", query, "over the failover %") == [(written, written)], "each is there once, with its chunk")
    until(lambda: same(nodes, "BETA") == [], "both sides are equal")
    assert process.poll() is None


def test_it_ends_in_order_and_the_status_says_that_it_does_not_run(daemon: tuple[Nodes, subprocess.Popen[str]]) -> None:
    nodes, process = daemon
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    shown = aya(nodes, "air", "status")
    assert shown.returncode == 1
    assert "does not run" in shown.stdout
    assert "pulled 0 rows" in aya(nodes, "air", "sync-now").stdout
    log = (nodes["AIR"].site.root / "log" / "air-sync.log").read_text()
    assert "ended" in log
    assert "Traceback" not in log


def test_a_large_document_keeps_no_small_one_waiting(daemon: tuple[Nodes, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon has ended: its writer of chunks works here."""
    nodes, _ = daemon
    monkeypatch.setattr(chunk_writer, "BUDGET_S", 0.3)
    text = "SELECT string_agg('Boat ' || g || ' left the harbour.', ' ') FROM generate_series(1, 20000) g"
    ask(nodes, "AIR", f"INSERT INTO documents (content) {text}")
    ask(nodes, "AIR", "INSERT INTO documents (content) VALUES ('Small, behind the large one.')")
    waits = "SELECT count(*) FROM write_queue WHERE needs_chunks AND NOT synced"
    with nodes["AIR"].session(write=True, deadline_s=60) as here:
        while one(nodes, "AIR", waits) == 2:  # an encoder may be found late
            assert ChunkWriter(nodes, "AIR").write(here), "the large one is not ready yet"
    one_round(nodes)
    assert count(nodes, "BETA", "Small, behind%") == 1
    assert one(nodes, "AIR", "SELECT count(*) FROM write_queue WHERE NOT synced") == 1, "the large one was no hindrance"
    ask(nodes, "AIR", "DELETE FROM documents WHERE length(content) > 100000")


def test_the_log_is_rotated_and_the_oldest_part_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "LOG_BYTES", 2_000)
    path = tmp_path / "log" / "air-sync.log"
    before = list(program.log.handlers)
    program._log(path)
    try:
        for number in range(500):
            program.log.info("round %d", number)
    finally:
        for handler in [one for one in program.log.handlers if one not in before]:
            program.log.removeHandler(handler)
            handler.close()
    files = sorted(path.parent.iterdir())
    assert len(files) == program.LOGS + 1
    assert all(file.stat().st_size <= 2_000 for file in files)
    assert "round 499" in path.read_text()
    assert not any("round 0\n" in file.read_text() for file in files)
