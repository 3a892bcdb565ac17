"""Ways to keep the old primary from acknowledging a write once another node is the primary, and which of them holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aya_lib.check import Check
from aya_lib.cluster.overview import NodeSeen
from aya_lib.operations.failover import look as facts
from aya_lib.operations.failover.look import Promise
from aya_lib.show import Badge, Shown, Table, Tone

Way = Literal["stopped", "confirmed", "synchronous", "none"]
Asked = Literal["auto", "stopped", "confirmed", "synchronous", "none"]

WAYS: dict[Way, tuple[str, str]] = {
    "stopped": (
        "A shell on it: its server is stopped (killed, where it is frozen), it no longer starts at boot, and a mark lies in its "
        "data directory",
        "It acknowledges nothing: there is no server, and nothing of this project starts one there as a primary",
    ),
    "confirmed": (
        "A person has switched its power or its network off, and says so by name (confirmed_by)",
        "As good as that person's word, and as long as nobody switches it on again",
    ),
    "synchronous": (
        "Replication was synchronous: its commits wait for a standby that no longer listens to it",
        "It acknowledges no write; a session that waits can be cancelled, and its row is then there alone. Reads go on",
    ),
    "none": (
        "Nothing, and somebody asked for it (fence=none)",
        "Nothing: if it lives, clients that reach it have their writes acknowledged there, and rejoin will have to save them",
    ),
}


@dataclass(frozen=True, repr=False)
class Fencing(Shown):
    """The ways beside each other; ``held`` is the one that holds in this run, None when none does."""

    old: str
    held: Way | None
    why: str

    def table(self) -> Table:
        rows = tuple(
            (Badge("passed", "holds") if way == self.held else Badge("planned", "no"), way, how, what)
            for way, (how, what) in WAYS.items()
        )
        tone: Tone = "failed" if self.held is None else "warning" if self.held == "none" else "passed"
        return Table(f"How {self.old} is fenced", ("", "way", "how", "what it guarantees"), rows, (self.why,), tone)


def choose(asked: Asked, node: NodeSeen, promise: Promise, confirmed_by: str) -> Fencing:
    """The strongest way that there is, or the one that was asked for if it can hold."""
    able: dict[Way, tuple[bool, str]] = {
        "stopped": (facts.reached(node), f"a shell on {node.name} {'answers' if facts.reached(node) else 'does not answer'}"),
        "confirmed": (bool(confirmed_by.strip()), f"confirmed by {confirmed_by.strip() or 'nobody'}"),
        "synchronous": (promise.synchronous is True, promise.how),
        "none": (asked == "none", "asked for"),
    }
    for way in ("stopped", "confirmed", "synchronous", "none") if asked == "auto" else (asked,):
        good, why = able[way]
        if good:
            return Fencing(node.name, way, why)
    tried = "; ".join(why for way, (_, why) in able.items() if asked in ("auto", way) and way != "none")
    return Fencing(node.name, None, tried)


def holds(found: Fencing) -> Check:
    """Some way keeps the old primary from acknowledging writes. ``none`` is a warning that names the danger."""
    name, expected = f"{found.old} is fenced", "stopped, confirmed off, or unable to acknowledge"
    if found.held is None:
        hint = (
            f"{found.old} may be alive and taking writes. Get a shell on it; or switch it off and say who did "
            "(confirmed_by=NAME); or, if you accept that it may acknowledge writes that will be lost, fence=none"
        )
        return Check(name, "failed", expected, f"nothing holds it: {found.why}", hint)
    if found.held == "none":
        hint = f"{found.old}, if it lives, goes on acknowledging writes: split brain. Keep clients off it; rejoin saves such rows"
        return Check(name, "warning", expected, "not fenced, as was asked for", hint)
    return Check(name, "passed", expected, f"{found.held}: {found.why}")
