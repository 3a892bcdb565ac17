"""SQL sessions: read-only on the server's side, and a deadline that no server can stretch."""

from __future__ import annotations

import socket
import time

import psutil
import pytest

from aya_lib import files
from aya_lib.errors import DeadlinePassed, SqlFailed, Unreachable
from aya_lib.lab import access
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.sql import NotListening
from aya_lib.operations.rejoin.look import source_conninfo
from aya_lib.site import Site


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


def test_a_session_depends_on_nothing_that_is_set_for_the_database_the_role_or_the_environment(
    bare: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = open_nodes(bare)
    node = nodes["ALPHA"]
    strange = {
        "timezone": "Asia/Tokyo",
        "datestyle": "German",
        "intervalstyle": "iso_8601",
        "bytea_output": "escape",
        "extra_float_digits": "-3",
        "quote_all_identifiers": "on",
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
                    connection.execute(f"ALTER {one} SET {name} = '{value}'")  # type: ignore[call-overload]
        with node.session(write=True) as connection:
            query = "SELECT lower(name), setting FROM pg_settings WHERE lower(name) = ANY (%s)"
            found = dict(connection.execute(query, (list(strange),)).fetchall())
            connection.execute("CREATE TEMPORARY TABLE t AS SELECT count(*) FROM documents")
        text = "SELECT array[timestamptz '2026-01-02 00:00Z']::text || interval '1 day 2:00' || 0.1::float8 || '\\xff'::bytea"
        there = f"{source_conninfo(nodes['BETA'], node)} dbname={bare.database.name}"
        by_psql = nodes["BETA"].postgresql("psql", "-X", "-A", "-t", "-w", "-d", there, "-c", text)
    finally:
        with node.session(write=True) as connection:
            for one in whose:
                connection.execute(f"ALTER {one} RESET ALL")  # type: ignore[call-overload]
    kept = [name for name, value in strange.items() if found[name] == value or found[name] == value.removesuffix("ms")]
    assert kept == []
    assert (found["search_path"], found["client_encoding"]) == ("public", "UTF8")
    assert by_psql.stdout == """{"2026-01-02 00:00:00+00"}1 day 02:00:000.1\\xff\n""", by_psql


def _ask_a_frozen_backend(node: Node) -> None:
    with node.session(deadline_s=1) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        backend.suspend()
        try:
            connection.execute("SELECT 1")
        finally:
            backend.resume()
