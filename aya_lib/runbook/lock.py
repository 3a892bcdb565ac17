"""One runbook at a time changes a site: the quick first answer, for those who share a folder of runs.

Whoever works elsewhere is kept away by the locks on the nodes, :mod:`aya_lib.runbook.pair_lock`.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from aya_lib import settings
from aya_lib.errors import Locked
from aya_lib.runbook.record import now

# By site, how to give back what a runbook of this process holds: one begun anew takes the place of the one before.
OURS: dict[str, Callable[[str], None]] = {}


@contextmanager
def site_lock(site: str, owner: str, *, contents: bool = False) -> Iterator[None]:
    """Hold the runs folder's lock as ``owner`` (the runbook's name); :class:`Locked` at once when another run holds it.
    ``contents``: the lock of those who load or measure."""
    let_go(site)
    path = settings.runs() / site / (".contents.lock" if contents else ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    info = path.with_name(f"{path.name}.txt")
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise locked(site, info.read_text() if info.exists() else "another run", f"the folder {path.parent}") from None
    try:
        info.write_text(who(owner))
        yield
    finally:
        info.unlink(missing_ok=True)
        lock.release()


def let_go(site: str | None = None) -> None:
    """Give back what an earlier runbook of this process still holds of the site; None: of any."""
    for name in set(OURS) & {site or name for name in OURS}:
        OURS.pop(name)("another runbook began in the same process")


def who(runbook: str) -> str:
    """This run, as others are told of it."""
    return f"{runbook}, PID {os.getpid()} of {getpass.getuser()}@{socket.gethostname()}, since {now()}"


def locked(site: str, holder: str, where: str) -> Locked:
    """The error for whoever comes second."""
    hint = "Wait until it has ended, or end it there; its lock ends with it"
    return Locked(f"site {site} is being changed by {' '.join(holder.split())} (it holds {where})", hint=hint)
