"""Methods to keep the old primary from acknowledging a write once another node is the primary, and which of them holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aya_lib.check import Check
from aya_lib.cluster.overview import NodeSeen
from aya_lib.cluster.replication import commits_wait, every_commit_waits_for
from aya_lib.cluster.server import Cluster
from aya_lib.cluster.state import MARK
from aya_lib.node.node import Node
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Starting
from aya_lib.show import Badge, Shown, Table, Tone

Condition = Literal["primary", "standby", "down", "starting", "frozen", "deaf", "unreachable"]
Method = Literal["stopped", "confirmed", "synchronous", "none"]
Asked = Literal["auto", "stopped", "confirmed", "synchronous", "none"]

METHODS: dict[Method, tuple[str, str]] = {
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


@dataclass(frozen=True)
class Promise:
    """Whether every commit waited for the standby that is to be promoted. None: nobody can say. ``how`` it is known.
    ``partly``: some waited, or for somebody else."""

    synchronous: bool | None
    how: str
    partly: bool = False

    @property
    def word(self) -> str:
        if self.partly:
            return "synchronous, but not for every commit and this standby"
        return {True: "synchronous", False: "asynchronous", None: "not known"}[self.synchronous]


@dataclass(frozen=True, repr=False)
class Fencing(Shown):
    """The methods beside each other; ``held`` is the one that holds in this run, None when none does."""

    old: str
    held: Method | None
    why: str

    def table(self) -> Table:
        rows = tuple(
            (Badge("passed", "holds") if method == self.held else Badge("planned", "no"), method, how, guarantees)
            for method, (how, guarantees) in METHODS.items()
        )
        tone: Tone = "failed" if self.held is None else "warning" if self.held == "none" else "passed"
        return Table(f"How {self.old} is fenced", ("", "method", "how", "what it guarantees"), rows, (self.why,), tone)


def promise(who_says: str, names: str, commit: str, standby: str, exempt: Sequence[str], alike: int = 1) -> Promise:
    """By synchronous_standby_names and synchronous_commit, for the receiver called ``standby``. ``alike``: how many receivers are
    called so, any of which would do. ``exempt``: see :func:`unless_exempt`."""
    how = f"{who_says} synchronous_standby_names = '{names}', synchronous_commit = {commit}"
    if not commits_wait(names, commit):
        return Promise(False, how)
    waits = every_commit_waits_for(names, standby) if standby else None
    if alike > 1:
        return Promise(False, f"{how}: {alike} receivers are called {standby}, and either will do", partly=True)
    if not waits:
        why = "so not every commit waits for it" if waits is False else "and whether commits wait for it cannot be told"
        return Promise(waits, f"{how}; the standby is called {standby or '?'}, {why}", partly=True)
    return unless_exempt(True, how, exempt)


def unless_exempt(synchronous: bool, how: str, exempt: Sequence[str]) -> Promise:
    """No promise for every commit where a role or database has one of its own (``exempt``) that waits for nobody."""
    if synchronous and exempt:
        return Promise(False, f"{how}, but not by {'; '.join(exempt)}", partly=True)
    return Promise(synchronous, how)


def condition(node: NodeSeen) -> Condition:
    """How a node is, from all sides. *unreachable* is the weakest: neither its server nor a shell on it answered."""
    if isinstance(node.cluster, Cluster):
        return "standby" if node.cluster.in_recovery else "primary"
    if isinstance(node.cluster, Starting):
        return "starting"
    if not isinstance(node.process, ServiceState):
        return "unreachable"
    if node.process.status == "frozen":
        return "frozen"
    return "deaf" if node.process.status == "running" else "down"


def reached(node: NodeSeen) -> bool:
    """Whether commands can be run on the node."""
    return isinstance(node.process, ServiceState)


def mark_path(node: Node) -> Path:
    """The file that says that a data directory is fenced; every runbook and the guard of the node's unit read it."""
    return node.data_directory / MARK


def choose(asked: Asked, node: NodeSeen, promise: Promise, confirmed_by: str) -> Fencing:
    """The strongest method that there is, or the one that was asked for if it can hold."""
    person = confirmed_by.strip()
    able: dict[Method, tuple[bool, str]] = {
        "stopped": (reached(node), f"a shell on {node.name} {'answers' if reached(node) else 'does not answer'}"),
        "confirmed": (bool(person), f"confirmed by {person or 'nobody'}"),
        "synchronous": (promise.synchronous is True, promise.how),
        "none": (asked == "none", "asked for"),
    }
    for method in ("stopped", "confirmed", "synchronous", "none") if asked == "auto" else (asked,):
        good, why = able[method]
        if good:
            return Fencing(node.name, method, why)
    tried = "; ".join(why for method, (_, why) in able.items() if asked in ("auto", method) and method != "none")
    return Fencing(node.name, None, tried)


def holds(fencing: Fencing) -> Check:
    """Something keeps the old primary from acknowledging writes. ``none`` is a warning that names the danger."""
    name, expected = f"{fencing.old} is fenced", "stopped, confirmed off, or unable to acknowledge"
    if fencing.held is None:
        hint = (
            f"{fencing.old} may be alive and taking writes. Get a shell on it; or switch it off and say who did "
            "(confirmed_by=NAME); or, if you accept that it may acknowledge writes that will be lost, fence=none"
        )
        return Check(name, "failed", expected, f"nothing holds it: {fencing.why}", hint)
    if fencing.held == "none":
        hint = (
            f"{fencing.old}, if it lives, goes on acknowledging writes: split brain. Keep clients off it; rejoin saves such rows"
        )
        return Check(name, "warning", expected, "not fenced, as was asked for", hint)
    return Check(name, "passed", expected, f"{fencing.held}: {fencing.why}")
