"""Facts that tests of decisions share: the lab's site as it is described, a moment, processes, and what stops a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from aya_lib import settings
from aya_lib.check import Check
from aya_lib.node.node import open_nodes
from aya_lib.node.supervisor import ServiceState
from aya_lib.plan.change import Change
from aya_lib.site import load_site

SITE = load_site(str(settings.home() / "parameters" / "lab" / "site.yaml"))
NODES = open_nodes(SITE)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
UP, STOPPED, FROZEN = ServiceState("running", 10, NOW), ServiceState("stopped"), ServiceState("frozen", 10, NOW)


def stopping(preconditions: Iterable[Check]) -> dict[str, str]:
    """The checks that stop a run, and their status; each says what to do."""
    stop = [check for check in preconditions if check.required and check.status in ("failed", "unknown")]
    assert all(check.hint for check in stop), stop
    return {check.name: check.status for check in stop}


def titles(changes: Sequence[Change]) -> list[str]:
    return [f"{step.node}: {step.title}" for step in changes]
