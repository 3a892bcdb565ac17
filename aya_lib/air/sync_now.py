"""A round on request, and none for a while."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.air import ready, status
from aya_lib.air.chunk_writer import ChunkWriter
from aya_lib.air.daemon import alone
from aya_lib.air.link import laptop, lock, open_ends, state
from aya_lib.air.sync_round import run_round
from aya_lib.errors import AyaError, Locked
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.node.sql import statement, value
from aya_lib.site import Site

DEADLINE_S = 60.0
COMPARE = "UPDATE aya_sync.laptop SET snapshot = NULL"


def sync(site: Site) -> str:
    """What was done, in a line. A running daemon is woken, and its next round waited for."""
    nodes, name = open_nodes(site), laptop(site)
    if nodes[name].config.ssh:  # a round runs on the laptop, and nowhere else
        return ready.run(nodes[name], ["air", "sync-now"], timeout_s=2 * DEADLINE_S).checked().stdout.strip()
    before = status.look(site).daemon
    try:
        return _here(nodes, name)
    except Locked:
        if before is None:
            raise
        if before.paused_until:
            message = f"{name}'s daemon leaves the primary alone until {before.paused_until}"
            raise AyaError(message, hint="End that: aya air resume") from None
    _wake(nodes[name], before.rounds)
    return f"{name}: the daemon ended a round"


def _here(nodes: Nodes, name: str) -> str:
    with alone(nodes.site), open_ends(nodes, name) as ends:
        done = run_round(ends, ChunkWriter(nodes, name))
        waiting = f"; chunks wait: {done.waiting}" if done.waiting else ""
        pushed = f"pushed {done.pushed.applied}, conflicts {done.pushed.conflicts}, refused {len(done.pushed.dead)}{waiting}"
        return f"{name} beside {ends.primary}: {pushed}, pulled {done.pulled.rows} rows"


def _wake(node: Node, rounds: int) -> None:
    """Have the daemon make a round, and wait for its end."""
    with node.session(write=True) as here:
        here.execute("NOTIFY aya_queue")
    wait.until(
        lambda: status.look(node.site).daemon,
        lambda daemon: daemon is not None and daemon.rounds > rounds,
        node=node.name,
        what="the daemon ends a round (see: aya air status)",
        deadline_s=DEADLINE_S,
    )


@dataclass(frozen=True)
class CompareAgain:
    """Have the next round compare everything under its own locks, and fetch what differs. What only the laptop has, or has in
    another version, is kept whole among the conflicts before it goes."""

    def command(self, node: Node) -> str:
        return f"{COMPARE}; NOTIFY aya_queue"

    def run(self, node: Node) -> None:
        with node.session(write=True) as connection:
            lock(node.name, connection)  # the end of a round under way would store its own snapshot over this
            connection.execute(COMPARE)
        sync(node.site)


def pause(site: Site, minutes: float) -> str:
    """Leave the primary alone for so long; 0: no longer. What is written meanwhile waits, and is found on the laptop."""
    node = open_nodes(site)[laptop(site)]
    with node.session(write=True) as here:
        state(here)
        until = value(here, statement(__package__, "pause"), (minutes, minutes))
        here.execute("NOTIFY aya_queue")
    return f"{node.name} leaves the primary alone until {until}" if until else f"{node.name} synchronises"
