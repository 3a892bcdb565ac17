"""launchd, systemd, lsof and ss: what they print becomes what we know, and no more."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from aya_lib.node.launchd import Launchd, parse_print
from aya_lib.node.listeners import LAST, local_listener, parse_lsof, parse_ss, remote_listener
from aya_lib.node.shell import Local
from aya_lib.node.supervisor import Listener
from aya_lib.node.systemd import Systemd, parse_show

UNITS = {"postgresql": "postgresql-18", "embedding": "aya.embedding-service"}


def recorded(name: str) -> str:
    return (Path(__file__).parent / "recorded" / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("name", "status", "pid", "detail"),
    [
        ("launchctl-running", "running", 412, ""),
        ("launchctl-crashing", "failed", None, "spawn scheduled, last exit code 78: EX_CONFIG"),
        ("launchctl-killed", "failed", None, "not running, last ended by signal Killed: 9"),
        ("launchctl-never", "stopped", None, "not running"),
        ("systemctl-running", "running", 30, ""),
        ("systemctl-failed", "failed", None, "failed: exit-code, exit status 1"),
        ("systemctl-restarting", "failed", None, "auto-restart: signal, exit status 9"),
        ("systemctl-stopped", "stopped", None, "inactive (dead)"),
        ("systemctl-unknown", "stopped", None, "no such unit"),
    ],
)
def test_what_a_supervisor_prints_becomes_a_state(name: str, status: str, pid: int | None, detail: str) -> None:
    parse = parse_print if name.startswith("launchctl") else parse_show
    found = parse(recorded(name))
    assert (found.status, found.pid, found.detail) == (status, pid, detail)


def test_systemd_tells_since_when() -> None:
    since = parse_show(recorded("systemctl-running")).since
    assert since is not None
    assert since.isoformat() == "2026-11-24T13:51:58+00:00"


def test_commands_are_what_a_person_would_type() -> None:
    launchd, systemd = Launchd(Local("ALPHA"), UNITS, sudo=True), Systemd(Local("ALPHA"), UNITS)
    plist = "/Library/LaunchDaemons/postgresql-18.plist"
    assert launchd.describe("start", "postgresql") == f"sudo -n launchctl bootstrap system {plist}"
    assert launchd.describe("stop", "postgresql") == "sudo -n launchctl bootout system/postgresql-18"
    assert launchd.describe("restart", "postgresql") == "sudo -n launchctl kickstart -k system/postgresql-18"
    assert systemd.describe("restart", "embedding") == "systemctl restart aya.embedding-service"


def test_listeners_are_named_or_said_to_be_hidden() -> None:
    assert parse_lsof(recorded("lsof-seen"), 28765) == Listener(28765, 4711, "python")
    assert parse_ss(recorded("ss-seen"), 28765) == Listener(28765, 4711, "python")
    assert parse_ss(recorded("ss-hidden"), 28765) == Listener(28765, None, "a process of another account")
    assert parse_ss("", 28765) is None
    assert parse_lsof("", 28765) is None


def test_this_machine_tells_who_listens_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        first = local_listener(Local("here"), port)
        assert LAST[port] == os.getpid()
        LAST[port] = 1  # who had it before does not count
        near, far = local_listener(Local("here"), port), remote_listener(Local("here"), port)
        with monkeypatch.context() as without:
            without.delattr(socket, "AF_NETLINK", raising=False)  # as where the kernel does not tell
            assert near == local_listener(Local("here"), port)
        assert near is not None
        assert far is not None
        assert first == near
        assert near.pid == far.pid == os.getpid()
    assert local_listener(Local("here"), port) is None
    assert remote_listener(Local("here"), port) is None
