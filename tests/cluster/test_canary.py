"""A probe removes what it wrote: when it ends, when it fails, when it is interrupted, and after it was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from aya_lib import files
from aya_lib import lab as labs
from aya_lib.check import Check
from aya_lib.cluster import application, canary
from aya_lib.cluster.canary import Leftover, Refusal, Visibility
from aya_lib.cluster.judge import application as judge
from aya_lib.lab import access
from aya_lib.node import wait
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.node.sql import NotListening, column
from aya_lib.node.unseen import Down, Planned, Unseen, seen
from aya_lib.site import Site


@pytest.fixture(scope="module")
def nodes(bare: Site) -> Nodes:
    return open_nodes(bare)


def left(nodes: Nodes, name: str = "ALPHA") -> tuple[str, ...]:
    (found,) = canary.leftover(nodes, name)
    assert isinstance(found, Leftover)
    return found.tables


def test_each_row_is_timed_and_nothing_is_left(nodes: Nodes) -> None:
    found = canary.visibility(nodes, "ALPHA", "BETA", 20)
    assert isinstance(found, Visibility)
    assert len(found.seen) == 20
    assert 0 < (found.percentile(50) or 0) <= (found.percentile(95) or 0) <= (found.percentile(100) or 0) == found.seen[-1]
    assert left(nodes) == ()


def test_percentiles_are_nearest_rank() -> None:
    found = Visibility("ALPHA", "BETA", tuple(float(n) for n in range(1, 21)), 2)
    assert [found.percentile(p) for p in (50, 95, 100)] == [10, 19, 20]


def test_a_failure_in_the_middle_leaves_nothing(nodes: Nodes) -> None:
    with pytest.raises(ZeroDivisionError), canary.marked(nodes["ALPHA"], 10):
        raise ZeroDivisionError
    assert left(nodes) == ()


def test_a_broken_session_leaves_nothing(nodes: Nodes) -> None:
    with pytest.raises(Exception, match="terminating connection"), canary.marked(nodes["ALPHA"], 10) as (connection, _):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert left(nodes) == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_or_killed_the_rows_are_gone_after_the_next_run_at_the_latest(
    nodes: Nodes, bare: Site, number: signal.Signals
) -> None:
    code = (
        "import time; from aya_lib.cluster import canary; from aya_lib.site import load_site\n"
        "from aya_lib.node.node import open_nodes\n"
        f"with canary.marked(open_nodes(load_site('{bare.name}'))['ALPHA'], 60): time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait.until(lambda: left(nodes), bool, node="ALPHA", what="the probe's table is there", deadline_s=60)
    process.send_signal(number)
    process.wait(20)
    if number == signal.SIGINT:
        assert left(nodes) == ()
    assert isinstance(canary.visibility(nodes, "ALPHA", "BETA", 1), Visibility)
    assert left(nodes) == ()


def test_a_probe_that_lives_is_not_swept_by_another(nodes: Nodes) -> None:
    with canary.marked(nodes["ALPHA"], 20) as (_, table):
        assert isinstance(canary.visibility(nodes, "ALPHA", "BETA", 1), Visibility)
        assert left(nodes) == (table,)
    assert left(nodes) == ()


def test_with_the_standby_down_the_rows_are_gone_too(nodes: Nodes, bare: Site) -> None:
    nodes["BETA"].supervisor.stop("postgresql")
    try:
        assert isinstance(canary.visibility(nodes, "ALPHA", "BETA", 3), Down)
        assert left(nodes) == ()
    finally:
        labs.up(bare, embedding=False)


def test_a_write_on_the_standby_is_refused_as_read_only_and_on_the_primary_it_is_not(nodes: Nodes) -> None:
    refused, accepted = (canary.refused_write(nodes, name) for name in ("BETA", "ALPHA"))
    assert isinstance(refused, Refusal)
    assert refused.sqlstate == psycopg.errors.ReadOnlySqlTransaction.sqlstate
    assert isinstance(accepted, Refusal)
    assert accepted.sqlstate is None


def test_what_could_not_be_asked_is_said_of_the_node_that_did_not_answer() -> None:
    def ask() -> None:
        raise NotListening("ALPHA", "SQL", "connection refused")

    assert seen("BETA", "marked rows from ALPHA", ask) == Down("ALPHA", "connection refused")


def test_what_would_be_written_is_said_beforehand() -> None:
    assert canary.writes(canary.visibility).startswith("marked rows")
    assert canary.writes(canary.leftover) == ""
    assert str(Planned("x")) == "x"


ROLE = "ALTER ROLE aya_user"
READ_ONLY = "default_transaction_read_only = on"
INDEX = "CREATE INDEX idx_chunks_embedding ON chunks USING ivfflat (embedding vector_cosine_ops) WITH (lists = 1)"
PASSWORD = "ALTER ROLE aya_user PASSWORD %s"
BROKEN = [
    (f"{ROLE} CONNECTION LIMIT 0", f"{ROLE} CONNECTION LIMIT -1", "write search", "CONNECTION LIMIT", ROLE),
    (f"{ROLE} NOLOGIN", f"{ROLE} LOGIN", "write search", "NOLOGIN", f"{ROLE} LOGIN"),
    (f"{ROLE} VALID UNTIL '2001-01-01'", f"{ROLE} VALID UNTIL 'infinity'", "write search", "expired", "VALID UNTIL"),
    ("REVOKE INSERT ON documents FROM aya_user", "GRANT INSERT ON documents TO aya_user", "write", "lacks INSERT", "GRANT"),
    (f"{ROLE} SET {READ_ONLY}", f"{ROLE} RESET ALL", "write", f"read_only is on ({ROLE})", f"{ROLE} RESET"),
    (f"ALTER DATABASE aya_rag SET {READ_ONLY}", "ALTER DATABASE aya_rag RESET ALL", "write", "ALTER DATABASE", "RESET"),
    (f"ALTER SYSTEM SET {READ_ONLY}", "ALTER SYSTEM RESET ALL", "write", "ALTER SYSTEM", "ALTER SYSTEM RESET"),
    ("ALTER SYSTEM SET synchronous_standby_names = ghost", "ALTER SYSTEM RESET ALL", "write", "= 'ghost'", "replication_mode"),
    ("ALTER TABLE chunks ENABLE ROW LEVEL SECURITY", "ALTER TABLE chunks DISABLE ROW LEVEL SECURITY",
     "write search", "no policy lets it see a row", "CREATE POLICY"),
    ("DROP INDEX idx_chunks_embedding", INDEX, "index", "there is none", "aya vectors rebuild"),
    ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_chunks_embedding'::regclass",
     "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'idx_chunks_embedding'::regclass",
     "index", "idx_chunks_embedding is invalid", "aya vectors rebuild"),
    ("SELECT pg_create_physical_replication_slot('old', true)", "SELECT pg_drop_replication_slot('old')", "slots", "old", "drop"),
    ("ALTER ROLE aya_user PASSWORD 'another'", PASSWORD, "write search", "no valid password", "another password"),
]  # fmt: skip


def works(nodes: Nodes) -> dict[str, Check]:
    """The checks that did not pass, by a word of their names."""
    found = judge.checks(nodes.site, application.ask(nodes["ALPHA"]))
    return {check.name.rsplit(" ", 1)[-1]: check for check in found if check.status != "passed"}


def owner(nodes: Nodes, text: str) -> None:
    text = text.replace("%s", f"'{access.passwords(nodes.site)['aya_user']}'")
    with nodes["ALPHA"].session(write=True) as connection:
        for statement in (
            "SET synchronous_commit = local",
            "SET default_transaction_read_only = off",
            text,
            "SELECT pg_reload_conf()",
        ):
            connection.execute(statement.encode())


def rows_left(nodes: Nodes) -> object:
    """Of all versions that the table's file holds, the dead ones too."""
    with nodes["ALPHA"].session(write=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pageinspect")
        pages = (
            "generate_series(0, pg_relation_size('documents') / 8192 - 1) n, heap_page_items(get_raw_page('documents', n::int))"
        )
        return connection.execute(f"SELECT count(*), (SELECT min(id) FROM documents) FROM {pages}").fetchone()


def test_the_application_works_and_nothing_is_left_of_the_trial(nodes: Nodes) -> None:
    before = rows_left(nodes)
    assert works(nodes) == {}
    assert rows_left(nodes) == before


@pytest.mark.parametrize(("broken", "mended", "named", "observed", "hint"), BROKEN)
def test_a_state_in_which_nobody_can_work_fails_and_is_named(
    nodes: Nodes, broken: str, mended: str, named: str, observed: str, hint: str
) -> None:
    owner(nodes, broken)
    try:
        found = works(nodes)
        assert set(found) == set(named.split())
        for check in found.values():
            assert check.status == ("warning" if named == "slots" else "failed")
            assert observed in check.observed
            assert hint in check.hint
    finally:
        owner(nodes, mended)
    assert works(nodes) == {}


def test_marked_rows_whose_commit_hangs_are_given_up_named_and_gone(nodes: Nodes) -> None:
    owner(nodes, "ALTER SYSTEM SET synchronous_standby_names = ghost")
    try:
        found = canary.visibility(nodes, "ALPHA", "BETA", 20)
        assert isinstance(found, Unseen)
        assert (found.node, "= 'ghost'" in found.reason) == ("ALPHA", True)
        assert left(nodes) == ()
    finally:
        owner(nodes, "ALTER SYSTEM RESET ALL")


def test_a_line_that_pg_hba_lacks_is_named(nodes: Nodes) -> None:
    file = nodes["ALPHA"].data_directory / "pg_hba.conf"
    before = file.read_text()
    file.write_text("host all postgres 127.0.0.1/32 scram-sha-256\n")
    try:
        owner(nodes, "SELECT 1")
        assert "pg_hba.conf" in works(nodes)["write"].hint
    finally:
        file.write_text(before)
        owner(nodes, "SELECT 1")


def test_the_holder_of_a_lock_is_named_and_how_to_end_it(nodes: Nodes) -> None:
    with nodes["ALPHA"].session(write=True) as connection, connection.transaction():
        connection.execute("LOCK TABLE documents")
        pid = connection.info.backend_pid
        found = works(nodes)
        assert set(found) == {"write", "search"}
        for check in found.values():
            assert f"documents is locked: AccessExclusiveLock of PID {pid}" in check.observed
            assert "LOCK TABLE documents" in check.observed
            assert f"pg_terminate_backend({pid})" in check.hint


def test_a_commit_that_a_killed_run_left_waiting_is_cancelled_by_the_next(nodes: Nodes) -> None:
    owner(nodes, "ALTER SYSTEM SET synchronous_standby_names = ghost")
    code = (
        "from aya_lib.cluster import application; from aya_lib.site import load_site\n"
        f"from aya_lib.node.node import open_nodes\napplication.ask(open_nodes(load_site('{nodes.site.name}'))['ALPHA'])"
    )
    try:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        wait.until(lambda: waiting(nodes), bool, node="ALPHA", what="its commit waits", deadline_s=60)
        process.kill()
        process.wait()
        (pid,) = waiting(nodes)
        wait.until(
            lambda: (works(nodes)["write"].status, pid in waiting(nodes)),
            lambda seen: seen == ("failed", False),
            node="ALPHA",
            what="it is cancelled",
            deadline_s=60,
        )
    finally:
        owner(nodes, "ALTER SYSTEM RESET ALL")


def waiting(nodes: Nodes) -> list[object]:
    with nodes["ALPHA"].session() as connection:
        return column(connection, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")


def test_without_the_roles_password_the_owner_tries_in_its_place_and_the_login_stays_unknown(
    nodes: Nodes, tmp_path: Path
) -> None:
    known = access.passfile(nodes.site)
    only = tmp_path / "pgpass"
    files.write(only, "".join(f"{line}\n" for line in known.read_text().splitlines() if ":aya_user:" not in line), private=True)
    content = nodes.site.model_dump()
    content["database"]["passfile"] = only
    strangers = open_nodes(Site.model_validate(content))
    found = works(strangers)
    assert [check.status for check in found.values()] == ["unknown", "unknown"]
    assert "accepted and committed as the owner with SET ROLE aya_user" in found["write"].observed
    owner(nodes, "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'never'; END$$")
    owner(nodes, "CREATE TRIGGER no BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION no()")
    try:
        assert (works(strangers)["write"].status, works(strangers)["write"].observed) == ("failed", "never")
        assert works(nodes)["write"].observed == "never"
    finally:
        owner(nodes, "DROP FUNCTION no CASCADE")
