"""One runbook at a time changes a site. The lock is the system's: it is gone with the process that held it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from aya_lib import settings
from aya_lib.errors import Locked
from aya_lib.runbook.record import now


@contextmanager
def site_lock(site: str, owner: str) -> Iterator[None]:
    """Hold the site's lock as ``owner`` (the runbook's name); :class:`Locked` at once when another run holds it."""
    path = settings.runs() / site / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    info = path.with_name(".lock.json")
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Locked(_held(site, info.read_text() if info.exists() else "{}")) from None
    try:
        info.write_text(json.dumps({"runbook": owner, "pid": os.getpid(), "since": now()}))
        yield
    finally:
        info.unlink(missing_ok=True)
        lock.release()


def _held(site: str, text: str) -> str:
    try:
        holder = json.loads(text)
    except ValueError:
        holder = {}
    who = f"{holder.get('runbook', 'another run')}, PID {holder.get('pid', 'unknown')}, since {holder.get('since', 'unknown')}"
    return f"site {site} is being changed by {who}. Wait until it has ended"
