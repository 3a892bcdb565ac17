"""A round on request, and none for a while."""

from __future__ import annotations

from aya_lib.air import ready, status
from aya_lib.air.chunk_writer import ChunkWriter
from aya_lib.air.daemon import ASKED, alone
from aya_lib.air.link import laptop, open_ends, state
from aya_lib.air.patrol import Patrol
from aya_lib.air.sync_round import Round, run_round
from aya_lib.errors import AyaError, Locked
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.node.sql import statement, value
from aya_lib.site import Site

DEADLINE_S = 60.0  # without a sign of life
REMOTE_S = 3600.0  # a round of the laptop may carry much


def sync(site: Site) -> str:
    """What was done, in a line. A running daemon is woken, and its next round waited for."""
    nodes, name = open_nodes(site), laptop(site)
    if nodes[name].config.ssh:  # a round runs on the laptop, and nowhere else
        return ready.run(nodes[name], ["air", "sync-now"], timeout_s=REMOTE_S).checked().stdout.strip()
    before = status.look(site).daemon
    try:
        return _here(nodes, name)
    except Locked:
        if before is None:
            raise
        if before.paused_until:
            message = f"{name}'s daemon leaves the primary alone until {before.paused_until}"
            raise AyaError(message, hint="End that: aya air resume") from None
    _wake(nodes[name], before)
    return f"{name}: the daemon ended a round"


def _here(nodes: Nodes, name: str) -> str:
    writer = ChunkWriter(nodes, name)
    with alone(nodes.site):
        done = Round(more=True)
        while done.more:
            with open_ends(nodes, name) as ends:
                done.continued_by(run_round(ends, writer))
                mended, primary = "" if done.more else Patrol().go(ends), ends.primary
    amiss = "".join(f"; {line}" for line in [mended, *done.notices] if line)
    waiting = f"; chunks wait: {done.waiting}" if done.waiting else ""
    pushed = f"pushed {done.pushed.applied}, conflicts {done.pushed.conflicts}, refused {len(done.pushed.dead)}{waiting}"
    return f"{name} beside {primary}: {pushed}, pulled {done.pulled.rows} rows{amiss}"


def _wake(node: Node, before: status.DaemonState) -> None:
    """Have the daemon make a round, and wait for its end for as long as it gives signs of life."""
    with node.session(write=True) as here:
        here.execute("SELECT pg_notify('aya_queue', %s)", (ASKED,))
    seen = status.look(node.site)
    while seen.daemon and not seen.hung and (seen.daemon.rounds, seen.daemon.failures) == (before.rounds, before.failures):
        seen = _later(node, seen.daemon.beat)
    if seen.daemon is None or seen.hung or seen.daemon.rounds == before.rounds:
        raise AyaError(f"{node.name} did not synchronise: {seen.away}", hint="See: aya air status")


def _later(node: Node, beat: float) -> status.Status:
    """The status at the daemon's next sign of life, or when none is to come."""
    return wait.until(
        lambda: status.look(node.site),
        lambda now: now.daemon is None or bool(now.hung) or now.daemon.beat != beat,
        node=node.name,
        what="the daemon ends a round (see: aya air status)",
        deadline_s=DEADLINE_S,
    )


def pause(site: Site, minutes: float) -> str:
    """Leave the primary alone for so long; 0: no longer. What is written meanwhile waits, and is found on the laptop."""
    node = open_nodes(site)[laptop(site)]
    with node.session(write=True) as here:
        state(here)
        until = value(here, statement(__package__, "pause"), (minutes, minutes))
        here.execute("NOTIFY aya_queue")
    return f"{node.name} leaves the primary alone until {until}" if until else f"{node.name} synchronises"
