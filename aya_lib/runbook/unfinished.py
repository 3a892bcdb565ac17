"""What a run left half done: read from the records, shown before anything else, with the command that goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from aya_lib import settings
from aya_lib.check import Check
from aya_lib.errors import AyaError
from aya_lib.runbook import parameters
from aya_lib.runbook.record import Record, alive

PAIR = ("failover", "rejoin", "restore", "switchback")  # one of them that passed saw to what another left
LATEST = 50  # records of a runbook that are looked at
BEGUN = ("started", "interrupted", "failed", "undo failed")


def checks(site: str) -> list[Check]:
    """A check for each runbook whose last run with changes broke off (failed), or still runs (a warning); newest first."""
    found = sorted(filter(None, map(_last, sorted((settings.runs() / site).glob("*/")))), key=lambda record: -_at(record))
    return [_check(record) for record in found if _state(record) and not _superseded(record, site)]


def changed(record: Mapping[str, Any]) -> dict[str, str]:
    """Each change that a run began, and what became of it: started, done, failed, interrupted, undone or undo failed."""
    steps = [step for step in record["steps"] if step["kind"] == "change"]
    return {f"{step['node']}: {step['title']}": str(step["state"]) for step in steps}


def half_done(record: Mapping[str, Any]) -> bool:
    """Whether something was begun and neither brought to its end nor undone."""
    states = changed(record)
    planned = {f"{one['node']}: {one['title']}" for step in record["steps"] if step["kind"] == "plan" for one in step["changes"]}
    left = {name: state for name, state in states.items() if state != "undone"}
    broken_off = record["outcome"] in ("running", "interrupted", "died")
    some = "done" in left.values() and (any(state in BEGUN for state in left.values()) or len(planned) > len(left))
    return bool(left) and (broken_off or some)


def _last(folder: Path) -> Mapping[str, Any] | None:
    """The newest run of a runbook that came so far as to change something; None when a later one passed."""
    for record in _records(folder):
        if record["outcome"] == "passed":
            return None
        if changed(record):
            return record
    return None


def _records(folder: Path) -> Iterator[Mapping[str, Any]]:
    for path in sorted(folder.glob("*.json"), reverse=True)[:LATEST]:
        try:
            content = Record.load(path).content
        except AyaError:
            continue
        if {"steps", "outcome", "started", "runbook", "parameters", "pid"} <= set(content):
            yield content


def _superseded(record: Mapping[str, Any], site: str) -> bool:
    others = [name for name in PAIR if record["runbook"] in PAIR and name != record["runbook"]]
    runs = (other for name in others for other in _records(settings.runs() / site / name))
    return any(other["outcome"] == "passed" and _at(other) > _at(record) for other in runs)


def _state(record: Mapping[str, Any]) -> str:
    if record["outcome"] == "running" and alive(record):
        return "runs"
    return "half done" if half_done(record) else ""


def _check(record: Mapping[str, Any]) -> Check:
    states = changed(record)
    name, done = f"{record['runbook']} is not half done", sum(state == "done" for state in states.values())
    if _state(record) == "runs":
        return Check(name, "warning", "no run is under way", f"it runs since {record['started']}, PID {record['pid']}")
    why = "its process is gone" if record["outcome"] == "running" else record["outcome"]
    last = next(f"'{name}' {state}" for name, state in reversed(states.items()) if state != "undone")
    observed = f"{why}, begun {record['started']}: {done} changes done, {last}"
    return Check(name, "failed", "ended, or undone", observed, f"Go on: {_command(record)}")


def _command(record: Mapping[str, Any]) -> str:
    try:
        declared = parameters.declared(parameters.find(record["runbook"], settings.notebooks()))
        return parameters.command(declared, record["parameters"])
    except AyaError:
        return f"aya run {record['runbook']} --site {record['site']}"


def _at(record: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(record["started"]).timestamp()
