"""SQL sessions: read-only on the server's side, a deadline that no server can stretch, and text that is the same wherever it is
read: so the contents of two servers are compared by what is there."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import psutil
import pytest

from aya_lib import files
from aya_lib.check import Check
from aya_lib.cluster import contents
from aya_lib.cluster.contents import Compared, Contents, TableSum
from aya_lib.cluster.replication import source_conninfo
from aya_lib.errors import DeadlinePassed, SqlFailed, Unreachable
from aya_lib.lab import access
from aya_lib.node import refusal, wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.sql import NotListening, Refused
from aya_lib.node.unseen import Unseen
from aya_lib.operations.verify.judge import equal
from aya_lib.plan.actions import Setting
from aya_lib.site import Site

STRANGE = {
    "timezone": "Asia/Tokyo",
    "datestyle": "German",
    "intervalstyle": "iso_8601",
    "bytea_output": "escape",
    "extra_float_digits": "-3",
    "lc_monetary": "POSIX",
    "quote_all_identifiers": "on",
}
ONE = Contents("ALPHA", "0/5", {"public.t": TableSum(2, 2, "1")}, sequences={"public.s": (70, 33)})
TWO = replace(ONE, node="BETA", sequences={"public.s": (37, 33)})


def moved(site: Site, **changed: object) -> Node:
    """ALPHA with another port, or the site with another password file."""
    content = site.model_dump()
    content["nodes"]["ALPHA"]["postgresql"]["port"] = changed.get("port", content["nodes"]["ALPHA"]["postgresql"]["port"])
    content["database"]["passfile"] = changed.get("passfile", content["database"]["passfile"])
    return open_nodes(Site.model_validate(content))["ALPHA"]


def test_a_fact_cannot_write_because_the_server_refuses(bare: Site) -> None:
    node = open_nodes(bare)["ALPHA"]
    with pytest.raises(SqlFailed, match="read-only transaction"), node.session() as connection:
        connection.execute("CREATE TABLE must_not_be (a int)")


def test_nobody_listening_is_known_and_not_just_unseen(bare: Site) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        node = moved(bare, port=free.getsockname()[1])
        with pytest.raises(NotListening, match="connection refused"), node.session():
            pass


def test_a_deaf_server_costs_the_connect_deadline(bare: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        node = moved(bare, port=deaf.getsockname()[1])
        with pytest.raises(DeadlinePassed, match="no answer within 2 s"), node.session():
            pass


def test_a_server_that_freezes_in_mid_session_costs_the_deadline(bare: Site) -> None:
    node = open_nodes(bare)["ALPHA"]
    started = time.monotonic()
    with pytest.raises(DeadlinePassed, match="no answer within 1 s"):
        _ask_a_frozen_backend(node)
    assert time.monotonic() - started < 20  # only a hang comes near


def test_a_slow_statement_is_ended_by_the_server(bare: Site) -> None:
    statement = "SET statement_timeout = '100ms'; SELECT pg_sleep(20)"
    with pytest.raises(DeadlinePassed, match="statement timeout"), open_nodes(bare)["ALPHA"].session() as connection:
        connection.execute(statement)


def test_a_wrong_password_is_one_line_with_the_way_out_and_without_the_password(bare: Site) -> None:
    wrong = access.passfile(bare).with_name("wrong")
    files.write(wrong, "*:*:*:*:hunter2\n", private=True)
    node = moved(bare, passfile=wrong)
    with pytest.raises(Unreachable, match=r"no valid password for role postgres.*\.pgpass") as raised, node.session():
        pass
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


LIBPQ = 'connection to server at "::1", port 1 failed: '
RUSSIAN = "ВАЖНО:  роль  «a»   не найдена"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (f"{LIBPQ}FATAL:  Rolle »nolog« hat keine Berechtigung\n", "Rolle »nolog« hat keine Berechtigung"),
        (f"{LIBPQ}{RUSSIAN}", "роль «a» не найдена"),
        (f"{LIBPQ}致命的エラー:  too many", "too many"),
        (f"{LIBPQ}Connection refused\n\tIs the server running on that host?", ""),
        (f"{LIBPQ}server closed the connection unexpectedly", ""),
        ("timeout expired", ""),
    ],
)
def test_what_a_server_said_is_known_in_any_language(message: str, said: str) -> None:
    assert refusal.said(message) == said


@pytest.mark.parametrize(
    ("database", "sqlstate"),
    [("nowhere", "3D000"), ("postgres", "53300")],
)
def test_a_refused_login_has_its_sqlstate_whatever_the_words_are(bare: Site, database: str, sqlstate: str) -> None:
    node = open_nodes(bare)["ALPHA"]
    role = bare.database.application_role if sqlstate == "53300" else None
    with node.session(write=True) as connection:
        connection.execute(f"ALTER ROLE {bare.database.application_role} CONNECTION LIMIT 0")
        with pytest.raises(Refused, match=f"SQLSTATE {sqlstate}: ") as raised, node.session(database=database, role=role):
            pass
        connection.execute(f"ALTER ROLE {bare.database.application_role} CONNECTION LIMIT -1")
    assert raised.value.sqlstate == sqlstate


def test_without_a_trace_the_words_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    words = ("the database system is starting up", 'password authentication failed for user "a"', "no such thing")
    assert [refusal.sqlstate("", one, 1) for one in words] == ["57P03", "28P01", ""]


def test_a_session_depends_on_nothing_that_is_set_for_the_database_the_role_or_the_environment(
    bare: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = open_nodes(bare)
    node = nodes["ALPHA"]
    strange = STRANGE | {
        "client_encoding": "LATIN1",
        "search_path": "",
        "statement_timeout": "1ms",
        "lock_timeout": "1ms",
        "transaction_timeout": "1ms",
        "idle_session_timeout": "1ms",
        "idle_in_transaction_session_timeout": "1ms",
        "default_transaction_read_only": "on",
        "default_transaction_isolation": "serializable",
        "row_security": "off",
        "role": "pg_monitor",
    }
    for name, value in {"PGTZ": "Asia/Tokyo", "PGDATESTYLE": "German", "PGCLIENTENCODING": "LATIN1"}.items():
        monkeypatch.setenv(name, value)
    for name, value in {"PGHOSTADDR": "192.0.2.1", "PGTARGETSESSIONATTRS": "standby", "PGOPTIONS": "-c work_mem=64"}.items():
        monkeypatch.setenv(name, value)
    whose = ("ROLE postgres", f"DATABASE {bare.database.name}")
    try:
        with node.session(write=True) as connection:
            for one in whose:
                for name, value in strange.items():
                    connection.execute(f"ALTER {one} SET {name} = '{value}'")
        with node.session(write=True) as connection:
            query = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
            found = {str(name): str(value) for name, value in connection.execute(query, (list(strange),)).fetchall()}
            connection.execute("CREATE TEMPORARY TABLE t AS SELECT count(*) FROM documents")
        text = "SELECT array[timestamptz '2026-01-02 00:00Z']::text || interval '1 day 2:00' || 0.1::float8 || '\\xff'::bytea"
        there = f"{source_conninfo(nodes['BETA'], node)} dbname={bare.database.name}"
        by_psql = nodes["BETA"].postgresql("psql", "-X", "-A", "-t", "-w", "-d", there, "-c", text)
    finally:
        with node.session(write=True) as connection:
            for one in whose:
                connection.execute(f"ALTER {one} RESET ALL")
    kept = [name for name, value in strange.items() if found[name] == value]
    assert kept == []
    assert (found["search_path"], found["client_encoding"]) == ("public", "UTF8")
    assert by_psql.stdout == """{"2026-01-02 00:00:00+00"}1 day 02:00:000.1\\xff\n""", by_psql


def execute(node: Node, database: str | None, *statements: str) -> None:
    with node.session(database=database, write=True) as connection:
        for statement in statements:
            connection.execute(statement)


def compare(site: Site) -> Check:
    """Once what was changed is on the standby."""
    return wait.until(
        lambda: equal(contents.look(open_nodes(site), "ALPHA", "BETA")),
        lambda check: check.status in ("passed", "warning"),
        node="BETA",
        what="it is equal",
        deadline_s=30,
    )


def test_whatever_the_standby_s_own_settings_are_and_in_every_database(bare: Site) -> None:
    alpha, beta = (open_nodes(bare)[name] for name in ("ALPHA", "BETA"))
    columns = (
        "at timestamptz DEFAULT now(), i interval DEFAULT '1 day', f float8 DEFAULT 0.1, b bytea DEFAULT 'x', m money DEFAULT 9"
    )
    try:
        execute(alpha, "postgres", "CREATE DATABASE shop")
        execute(alpha, "shop", "CREATE TABLE orders (tenant text, id serial, PRIMARY KEY (tenant, id))")
        execute(alpha, "shop", "INSERT INTO orders SELECT 'a' FROM generate_series(1, 5)", "CREATE UNLOGGED TABLE cart ()")
        execute(alpha, None, f"CREATE TABLE kinds ({columns})", "INSERT INTO kinds DEFAULT VALUES", "SELECT lo_create(4711)")
        execute(alpha, None, "SELECT lo_put(4711, 0, 'large')")
        for name, value in STRANGE.items():
            Setting(name, value).run(beta)
        observed = compare(bare).observed
        assert "pg_catalog.pg_largeobject 1, " in observed
        assert "kinds 1, shop: public.orders 5 rows" in observed
        assert observed.endswith("unlogged and so never on BETA: shop: public.cart")
        execute(alpha, "postgres", "ALTER DATABASE shop ALLOW_CONNECTIONS false")
        closed = compare(bare)
        assert (closed.status, "not compared: shop" in closed.observed) == ("warning", True)
    finally:
        for name in STRANGE:
            Setting(name, None).run(beta)
        execute(alpha, None, "DROP TABLE kinds", "SELECT lo_unlink(4711)")
        execute(alpha, "postgres", "DROP DATABASE shop")


def test_each_kind_of_difference_is_told() -> None:
    assert Compared(ONE, TWO).differing() == []  # WAL is ahead of what was given out
    behind = Compared(ONE, replace(TWO, sequences={"public.s": (36, 33)}))
    assert equal(behind).observed == "public.s: a sequence at 70 on ALPHA, 36 on BETA"
    assert equal(Compared(ONE, replace(TWO, sequences={}))).observed == "public.s: a sequence at 70 on ALPHA, nothing on BETA"
    more = replace(ONE, tables={"shop: public.o": TableSum(1, 1, "5")}, sequences={})
    assert equal(Compared(ONE.plus(more), TWO)).observed == "shop: public.o: only on ALPHA"
    unseen = Compared(ONE, TWO, {"shop": Unseen("BETA", "count", "no answer")})
    assert (equal(unseen).status, unseen.differing()) == ("warning", [])
    told = Compared(replace(ONE, prepared=("tx1",), unlogged=("public.cart",)), TWO).left_out()
    assert told == ["unlogged and so never on BETA: public.cart", "prepared and not decided: tx1"]


def _ask_a_frozen_backend(node: Node) -> None:
    with node.session(deadline_s=1) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        backend.suspend()
        try:
            connection.execute("SELECT 1")
        finally:
            backend.resume()
