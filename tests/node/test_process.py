"""PID files are checked against the process table, and never trusted blindly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aya_lib.errors import AyaError
from aya_lib.node import pidfile, wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.process import Processes
from aya_lib.node.shell import become
from aya_lib.site import Site


@pytest.fixture(scope="module")
def alpha(bare: Site) -> Node:
    return open_nodes(bare)["ALPHA"]


@pytest.fixture
def supervisor(alpha: Node) -> Iterator[Processes]:
    assert isinstance(alpha.supervisor, Processes)
    alpha.supervisor.pid_file("embedding").parent.mkdir(exist_ok=True)
    yield alpha.supervisor
    alpha.supervisor.pid_file("embedding").unlink(missing_ok=True)


def test_a_running_server_is_told_with_its_pid(alpha: Node) -> None:
    state = alpha.supervisor.state("postgresql")
    assert state.status == "running"
    assert state.pid is not None
    assert "postgres" in psutil.Process(state.pid).name()


@pytest.mark.parametrize("content", ["", "not json", "{}", '{"pid": "x"}'])
def test_a_pid_file_that_cannot_be_read_is_stale(supervisor: Processes, content: str) -> None:
    supervisor.pid_file("embedding").write_text(content)
    assert supervisor.state("embedding").status == "stale"


def test_a_pid_file_of_another_process_is_stale_and_that_process_is_never_signalled(supervisor: Processes) -> None:
    started = psutil.Process(os.getpid()).create_time()
    claimed = {"pid": os.getpid(), "started": started, "command": supervisor.command("embedding")}
    supervisor.pid_file("embedding").write_text(json.dumps(claimed))
    state = supervisor.state("embedding")
    assert (state.status, state.pid) == ("stale", None)
    supervisor.stop("embedding")  # would end this very test if it believed the file


def test_a_server_is_the_same_process_also_when_the_clock_was_set_since_its_start(alpha: Node) -> None:
    path = alpha.data_directory / "postmaster.pid"
    before = path.read_text()
    pid, directory, started, rest = before.split("\n", 3)
    try:
        path.write_text(f"{pid}\n{directory}\n{int(started) - 3600}\n{rest}")
        found = alpha.supervisor.state("postgresql")
        assert (found.status, found.pid) == ("running", int(pid))
    finally:
        path.write_text(before)


def test_a_postmaster_pid_of_another_process_is_stale_and_start_goes_past_it(alpha: Node) -> None:
    alpha.supervisor.stop("postgresql")
    # PostgreSQL itself refuses to start over the PID of a living process of its own account.
    identity = become(alpha.account) if os.geteuid() == 0 else {}
    stranger = subprocess.Popen(["sleep", "60"], **identity)
    try:
        path = alpha.data_directory / "postmaster.pid"
        path.write_text(f"{stranger.pid}\n{alpha.data_directory}\n1\n5432\n\n\n")
        assert alpha.supervisor.state("postgresql").status == "stale"
        alpha.supervisor.stop("postgresql")
        alpha.supervisor.start("postgresql")
        assert alpha.supervisor.state("postgresql").status == "running"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_start_and_stop_are_harmless_twice(alpha: Node) -> None:
    keeps = alpha.supervisor
    keeps.start("postgresql")
    pid = keeps.state("postgresql").pid
    keeps.start("postgresql")
    assert keeps.state("postgresql").pid == pid
    keeps.stop("postgresql")
    keeps.stop("postgresql")
    assert keeps.state("postgresql").status == "stopped"
    keeps.start("postgresql")


def test_a_process_that_only_waits_to_be_reaped_has_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = psutil.Process(child.pid)
        assert pidfile.runs(process)
        assert not pidfile.ended([process], 0)
        pidfile.end(child.pid, 20)
        assert process.status() == psutil.STATUS_ZOMBIE
        assert pidfile.ended([process], 0)
        assert pidfile.living(child.pid) is None


def test_a_start_that_fails_shows_the_last_words_of_the_log(alpha: Node) -> None:
    alpha.supervisor.stop("postgresql")
    conf = alpha.data_directory / "lab.conf"
    good = conf.read_text()
    try:
        conf.write_text(good + "no_such_setting = 1\n")
        with pytest.raises(AyaError, match="no_such_setting"):
            alpha.supervisor.start("postgresql")
    finally:
        conf.write_text(good)
    alpha.supervisor.start("postgresql")


def test_the_same_interpreter_under_another_name_is_the_same_command(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.symlink_to(sys.executable)
    words = ["-c", "import time; time.sleep(60)"]
    with subprocess.Popen([str(other), *words]) as process:
        try:
            pid_file = tmp_path / "x.pid"
            pidfile.claim(pid_file, psutil.Process(process.pid), [str(other), *words])
            wait.until(
                lambda: pidfile.state(pid_file, [sys.executable, *words]).status,
                lambda status: status == "running",
                node="here",
                what="the process runs its command",
                deadline_s=60,
            )
            assert pidfile.state(pid_file, [sys.executable, "-c", "pass"]).status == "stale"
        finally:
            process.kill()
