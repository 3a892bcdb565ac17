"""The local shell: output and status as they are, another account, and a deadline that leaves nothing behind."""

from __future__ import annotations

import grp
import os
import pwd
import time
from pathlib import Path

import psutil
import pytest

from aya_lib.errors import CommandFailed, DeadlinePassed, MissingProgram
from aya_lib.node.pidfile import living
from aya_lib.node.shell import Local, exists, read, unprivileged

HERE = Local("here")


def test_output_and_status_are_given_as_they_are() -> None:
    done = HERE.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin="in")
    assert (done.stdout, done.stderr, done.status) == ("in", "err\n", 3)
    with pytest.raises(CommandFailed, match=r"here: sh .* ended with status 3: err"):
        done.checked()


def test_a_missing_program_is_one_line() -> None:
    with pytest.raises(MissingProgram, match=r"no program frobnicate\. Check bin_directory"):
        HERE.run(["frobnicate"])


def test_a_deadline_ends_the_program_and_its_children() -> None:
    mark = f"{time.time_ns() % 10**8 / 1000 + 100_000:.3f}"
    with pytest.raises(DeadlinePassed, match=r"no answer within 0\.5 s"):
        HERE.run(["sh", "-c", f"sleep {mark} & sleep {mark}"], timeout_s=0.5)
    there = [process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or [])]
    assert not [process for process in there if living(process.pid)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the account without a password")
def test_root_runs_programs_as_another_account() -> None:
    assert HERE.run(["id", "-un"], account=unprivileged()).stdout.strip() == unprivileged() != "root"
    own = grp.getgrgid(pwd.getpwnam(unprivileged()).pw_gid).gr_name
    assert HERE.run(["id", "-Gn"], account=unprivileged()).stdout.split() == [own]  # and none of root's
    with pytest.raises(MissingProgram, match=r"no program frobnicate\. Check bin_directory"):
        HERE.run(["frobnicate"], account=unprivileged())


def test_a_file_that_is_not_there_is_told_from_one_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    assert read(HERE, path) is None
    assert not exists(HERE, path)
    path.write_text("x\n")
    assert read(HERE, path) == "x\n"
    assert exists(HERE, path)
    if os.geteuid() == 0:
        tmp_path.chmod(0o700)
        with pytest.raises(CommandFailed, match="Permission denied"):
            read(HERE, path, account=unprivileged())
