"""Rounds of losing the primary under load: killed, passed over, brought back, and handed back; acknowledged writes counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests_support import Stepped, passed, step
from writers import Clients, clients

from aya_lib.lab import faults
from aya_lib.node import wait
from aya_lib.site import Site

Run = Callable[..., Stepped]


@dataclass(frozen=True)
class Round:
    """``lost``: acknowledged writes that the new primary does not have; ``bound``: how many the runbook said may be lost, None:
    replication is synchronous. ``saved``: how many of the lost ones rejoin saved. ``seconds``: from the kill to the first write
    acknowledged after it.
    """

    lost: int
    bound: int | None
    saved: int
    seconds: float
    both: int
    acknowledged: int


def one(site: Site, *, synchronous: bool, run: Run = step) -> Round:
    """Kill the primary under load, fail over, rejoin, switch back; the site is as before in the end."""
    passed(run("replication_mode", site=site.name, mode="synchronous" if synchronous else "asynchronous"))
    with clients(site) as at_work:
        _writes(at_work, 60)
        faults.inject(site, "alpha-down")
        at_work.mark()
        failed_over = passed(run("failover", site=site.name, emergency=True, reason="chaos"))
        seconds = wait.until(lambda: at_work.first_after, bool, node="BETA", what="a write", deadline_s=30)
        _writes(at_work, 60)
        returned = passed(run("rejoin", site=site.name, node="ALPHA"))
        lost = set(at_work.acknowledged) - at_work.stored("BETA")
        passed(run("switchback", site=site.name))
        _writes(at_work, 60)
    lost |= set(at_work.acknowledged) - at_work.stored("ALPHA")
    loss = failed_over.check("what may be lost")
    behind = next(one for one in failed_over.record["steps"] if one.get("title") == "failover.look")["facts"]["behind"]
    bound = None if loss["observed"].startswith("no acknowledged write") else behind["transactions"]
    text = _saved(returned)
    saved = sum(f"{one}" in text for one in lost)
    return Round(len(lost), bound, saved, float(seconds or 0), len(at_work.both), len(at_work.acknowledged))


def _writes(at_work: Clients, more: int) -> None:
    before = len(at_work.acknowledged)
    wait.until(
        lambda: len(at_work.acknowledged) - before,
        lambda count: count >= more,
        node="the primary",
        what=f"{more} more writes are acknowledged",
        deadline_s=60,
    )


def _saved(returned: Stepped) -> str:
    """The files of rows that rejoin saved from the old primary, all of them."""
    folders = [Path(one.folder) for one in returned.names["after"].salvage]
    return "".join(path.read_text() for folder in folders for path in folder.rglob("*.jsonl"))
