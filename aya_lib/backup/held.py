"""One at a time works on the repository: a lock on its folder, kept by signs of life while the block lasts."""

from __future__ import annotations

import getpass
import os
import re
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from aya_lib.errors import Locked
from aya_lib.node import wait
from aya_lib.node.hold import BEAT_S, Machine
from aya_lib.node.node import Node

PROGRAMS = ("pg_basebackup", "pg_dump", "pg_dumpall", "pg_restore", "pg_verifybackup")
HINT = "Wait until it has ended, or end it there; its lock ends with it"


@contextmanager
def held(keeper: Node, folder: Path, what: str) -> Iterator[Callable[[], None]]:
    """Hold the repository; the value that is given raises :class:`Locked` once it is lost. :class:`Locked` when another has it.

    Programs that a killed run left at work there are ended first.
    """
    who = f"{what}, PID {os.getpid()} of {getpass.getuser()}@{socket.gethostname()}"
    hold, ended, lost = Machine(keeper, who, folder), threading.Event(), threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            if not hold.beat():
                return lost.set()

    def still() -> None:
        if lost.is_set() or not hold.beat():
            raise Locked(f"the lock on {hold.where} was lost: somebody else may be at work", hint="Run it again")

    thread = threading.Thread(target=beat, daemon=True)
    try:
        holder = hold.take()
        if holder is not None:
            raise Locked(f"the backups of {keeper.site.name} are in use by {holder} (it holds {hold.where})", hint=HINT)
        thread.start()
        end_left(keeper, folder)
        yield still
    finally:
        ended.set()
        if thread.ident:
            thread.join()
        hold.release()


def left_running(table: str, folder: Path, programs: Collection[str] = PROGRAMS) -> list[int]:
    """PIDs, in what ps printed (PID, arguments), of the programs that work on something in the folder."""
    lines = re.findall(r"^\s*(\d+)\s+(\S+)( .*)$", table, re.MULTILINE)
    return [int(pid) for pid, path, rest in lines if Path(path).name in programs and f"{folder}/" in rest]


def end_left(keeper: Node, folder: Path, programs: Collection[str] = PROGRAMS) -> None:
    """End them, and wait until they are gone: who holds the lock knows that nobody needs them."""

    def look() -> list[int]:
        return left_running(keeper.shell.run(["ps", "-A", "-ww", "-o", "pid=,args="]).checked().stdout, folder, programs)

    pids = look()
    if pids:
        keeper.shell.run(["kill", "-KILL", *map(str, pids)], account=keeper.account)
        limit_s = keeper.site.deadlines.command_s
        wait.until(look, lambda left: not left, node=keeper.name, what="what a killed run left has ended", deadline_s=limit_s)
