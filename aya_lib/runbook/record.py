"""The run record: one JSON document a run, rewritten at every step, so that a killed run leaves evidence.

Keys: ``schema`` (1), ``runbook``, ``site``, ``parameters``, ``dry_run``, ``approved_by``, ``versions``, ``pid`` (of the
kernel), ``started``, ``ended``, ``seconds``, ``steps`` (each with ``at`` and ``kind``: look, check, plan, change, wait,
measure, error), ``verdict`` (``status`` and ``line``, or null), ``outcome`` (running, passed, failed, unknown, planned,
interrupted, died, refused), ``error``, ``notebook``.
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
    return {
        "runbook": runbook,
        "site": site,
        "parameters": dict(parameters),
        "dry_run": bool(parameters.get("dry_run", False)),
        "approved_by": str(parameters.get("approved_by", "")),
        "versions": {"aya": __version__, "python": platform.python_version()},
        "pid": os.getpid(),
    }


class Record:
    """A record on disk. Every change of it is there at once, whole: written beside, synced, renamed."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path = path
        self.content: dict[str, Any] = dict(content)

    @classmethod
    def begin(cls, path: Path, **content: Any) -> Record:
        """A new record at ``path``; :class:`AyaError` when it cannot be written there."""
        begun: dict[str, Any] = {"started": now(), "ended": None, "steps": [], "verdict": None, "outcome": "running"}
        record = cls(path, {"schema": 1, **content, **begun})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            record.reserve.write_bytes(b"\0" * RESERVE_BYTES)
            record.write()
        except OSError as error:
            record.reserve.unlink(missing_ok=True)
            raise AyaError(
                f"no run record can be written to {path.parent}: {error.strerror}",
                hint="Make room there, or set AYA_RUNS to another folder",
            ) from None
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
        try:
            # Not by json.dumps, which indents in Python: after fifty steps that was half of a run's time.
            files.write(self.path, to_json(self.content, indent=1, inf_nan_mode="constants").decode(), private=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self.reserve.exists():
                raise
            self.reserve.unlink(missing_ok=True)
            self.write()
