"""The run record: one JSON document a run, rewritten at every step, so that a killed run leaves evidence.

Keys: ``schema`` (1), ``runbook``, ``site``, ``parameters``, ``dry_run``, ``approved_by``, ``versions``, ``pid`` (of the
kernel), ``process_started``, ``host``, ``started``, ``ended``, ``seconds``, ``steps`` (each with ``at`` and ``kind``: look,
check, plan, change, wait, measure, error), ``verdict`` (``status`` and ``line``, or null), ``outcome`` (running, passed,
failed, unknown, planned, interrupted, died, refused), ``error``, ``notebook``.
"""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from aya_lib import __version__, files
from aya_lib.errors import AyaError

RESERVE_BYTES = 512 * 1024  # kept beside a running record, given up when the disk is full so that its end still fits


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def heading(runbook: str, site: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of its run before anything is done, by this process."""
    import psutil

    return {
        "runbook": runbook,
        "site": site,
        "parameters": dict(parameters),
        "dry_run": bool(parameters.get("dry_run", False)),
        "approved_by": str(parameters.get("approved_by", "")),
        "versions": {"aya": __version__, "python": platform.python_version()},
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),  # with the PID and the host: which process it is
        "host": platform.node(),
    }


class Record:
    """A record on disk. Every change of it is there at once, whole: written beside, synced, renamed."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path = path
        self.content: dict[str, Any] = dict(content)

    @classmethod
    def begin(cls, path: Path, **content: Any) -> Record:
        """A new record at ``path``, or beside it when another run has that name; :class:`AyaError` when it cannot be written."""
        begun: dict[str, Any] = {"started": now(), "ended": None, "steps": [], "verdict": None, "outcome": "running"}
        record = cls(path, {"schema": 1, **content, **begun})
        claimed: list[Path] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            record.path = _claimed(path)
            claimed = [record.path, record.reserve]
            record.reserve.write_bytes(b"\0" * RESERVE_BYTES)
            record.store()
        except OSError as error:
            for made in claimed:
                made.unlink(missing_ok=True)
            line = f"no run record can be written to {path.parent}: {error.strerror}"
            raise AyaError(line, hint="Make room there, or set AYA_RUNS to another folder") from None
        return record

    @classmethod
    def load(cls, path: Path) -> Record:
        """The record at ``path``; :class:`AyaError` when it is missing or is not one."""
        try:
            return cls(path, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise AyaError(f"{path} is not a run record: {error}") from None

    @property
    def reserve(self) -> Path:
        return self.path.with_suffix(".reserve")

    def add(self, kind: str, **content: Any) -> None:
        """Append a step and write the record."""
        self.content["steps"].append({"at": now(), "kind": kind, **to_jsonable_python(content, fallback=str)})
        self.write()

    def set(self, **content: Any) -> None:
        """Set keys of the document and write it."""
        self.content |= to_jsonable_python(content, fallback=str)
        self.write()

    def end(self, outcome: str, **content: Any) -> None:
        """The last word: outcome, time of the end, duration. The reserve is given back."""
        self.reserve.unlink(missing_ok=True)
        ended = now()
        seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(self.content["started"])).total_seconds()
        self.set(outcome=outcome, ended=ended, seconds=round(seconds, 3), **content)

    def write(self) -> None:
        """Write it, with the reserve's room when there is no other; :class:`AyaError` when it cannot be written."""
        try:
            self.store()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and self.reserve.exists():
                self.reserve.unlink(missing_ok=True)
                return self.write()
            line = f"the run record {self.path} cannot be written: {error.strerror}"
            raise AyaError(line, hint="Make room there, and run it again") from None

    def store(self) -> None:
        # Not by json.dumps, which indents in Python: after fifty steps that was half of a run's time.
        files.write(self.path, to_json(self.content, indent=1, inf_nan_mode="constants").decode(), private=True)


def _claimed(path: Path) -> Path:
    """The path itself, made empty, or the first one that is free: two runs can begin in the same second."""
    for number in range(2, 10_000):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            return path
        except FileExistsError:
            path = path.with_name(f"{path.stem.partition('-')[0]}-{number}{path.suffix}")
    raise OSError(errno.EEXIST, "no free name")


def alive(content: Mapping[str, Any]) -> bool:
    """Whether the process of a record runs still: the same PID, begun at the same time. One of another machine may."""
    import psutil

    if content.get("host", platform.node()) != platform.node():
        return True
    try:
        process = psutil.Process(int(content["pid"]))
        began = float(content.get("process_started") or process.create_time())
        return abs(process.create_time() - began) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
