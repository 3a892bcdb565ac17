"""What a run left half done, as its record tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aya_lib.runbook import unfinished
from aya_lib.runbook.record import Record, heading

PLANNED = [{"node": "ALPHA", "title": "stop"}, {"node": "BETA", "title": "promote"}]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AYA_RUNS", str(tmp_path))
    return tmp_path


def kept(runs: Path, runbook: str, outcome: str, *states: str, **heads: Any) -> None:
    """A record as a run leaves it: ``states`` are those of the plan's changes."""
    path = runs / "lab" / runbook / f"{len(list(runs.rglob('*.json'))):03}.json"
    begun = heading(runbook, "lab", {"site": "lab", "emergency": True} if runbook == "failover" else {"site": "lab"})
    record = Record.begin(path, **begun, **{})
    record.content |= heads
    record.add("plan", title="p", changes=PLANNED)
    for change, state in zip(PLANNED, states, strict=False):
        record.add("change", **change, state=state)
    record.write() if outcome == "running" else record.end(outcome)


@pytest.mark.parametrize(
    ("outcome", "states", "status"),
    [
        ("interrupted", ("done", "interrupted"), "failed"),
        ("failed", ("done", "failed"), "failed"),
        ("died", ("done",), "failed"),
        ("died", ("done", "done"), "failed"),  # between two plans
        ("running", ("done", "started"), "warning"),
        ("interrupted", ("undone", "undone"), None),
        ("failed", ("done", "done"), None),  # all was done; what does not hold afterwards is for the checks of the site
        ("failed", ("failed",), None),
        ("failed", (), None),
        ("passed", ("done", "done"), None),
    ],
)
def test_half_done_is_what_was_neither_ended_nor_undone(
    runs: Path, outcome: str, states: tuple[str, ...], status: str | None
) -> None:
    kept(runs, "failover", outcome, *states)
    assert [check.status for check in unfinished.checks("lab")] == ([status] if status else [])


def test_it_is_shown_with_the_command_that_goes_on_until_a_later_run_has_seen_to_it(runs: Path) -> None:
    kept(runs, "failover", "running", "done", "started", process_started=1.0)
    kept(runs, "failover", "failed")  # it stopped at the gate
    kept(runs, "ingest", "passed", "done", "done")
    (check,) = unfinished.checks("lab")
    assert check.observed.startswith("its process is gone, begun 20")
    assert check.observed.endswith("1 changes done, 'BETA: promote' started")
    assert check.hint == "Go on: aya run failover -p emergency=true"
    kept(runs, "restore", "passed", "done", "done")
    assert unfinished.checks("lab") == []
