"""A round on request."""

from __future__ import annotations

from aya_lib.air import ready, status
from aya_lib.air.cycle import turn
from aya_lib.air.daemon import alone
from aya_lib.air.link import laptop, open_ends
from aya_lib.air.link import state as known
from aya_lib.air.local import Writer
from aya_lib.errors import AyaError, Locked
from aya_lib.node import wait
from aya_lib.node.node import open_nodes
from aya_lib.site import Site

DEADLINE_S = 60.0


def sync(site: Site) -> str:
    """What was done, in a line. A running daemon is woken, and its next round waited for."""
    nodes, name = open_nodes(site), laptop(site)
    if nodes[name].wish.ssh:  # a round runs on the laptop, and nowhere else
        return ready.run(nodes[name], ["air", "sync-now"], timeout_s=2 * DEADLINE_S).checked().stdout.strip()
    before = status.look(site).said
    try:
        with alone(site), open_ends(nodes, name) as ends:
            done = turn(ends, Writer(nodes, name))
            said = f"pushed {done.pushed.applied}, conflicts {done.pushed.conflicts}, refused {len(done.pushed.dead)}"
            said += f"; chunks wait: {done.waiting}" if done.waiting else ""
            return f"{name} beside {ends.primary}: {said}, pulled {done.pulled.rows} rows"
    except Locked:
        if before is None:
            raise
        if before.paused_until:
            told = f"{name}'s daemon leaves the primary alone until {before.paused_until}"
            raise AyaError(told, hint="End that: aya air resume") from None
    with nodes[name].session(write=True) as here:
        here.execute("NOTIFY aya_queue")
    rounds = before.rounds
    wait.until(
        lambda: status.look(site).said,
        lambda said: said is not None and said.rounds > rounds,
        node=name,
        what="the daemon ends a round (see: aya air status)",
        deadline_s=DEADLINE_S,
    )
    return f"{name}: the daemon ended a round"


def pause(site: Site, minutes: float) -> str:
    """Leave the primary alone for so long; 0: no longer. What is written meanwhile waits, and is found on the laptop."""
    node = open_nodes(site)[laptop(site)]
    with node.session(write=True) as here:
        known(here)
        update = "UPDATE aya_sync.laptop SET paused_until = CASE WHEN %s > 0 THEN clock_timestamp() + %s * interval '1 min' END"
        row = here.execute(update + " RETURNING paused_until::timestamptz(0)::text", (minutes, minutes)).fetchone()
        here.execute("NOTIFY aya_queue")
    return f"{node.name} leaves the primary alone until {row[0]}" if row and row[0] else f"{node.name} synchronises"
