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


def _ask_a_frozen_backend(node: Node) -> None:
    with node.session(deadline_s=1) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        backend.suspend()
        try:
            connection.execute("SELECT 1")
        finally:
            backend.resume()
