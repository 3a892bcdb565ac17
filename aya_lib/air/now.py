"""A round on request."""

from __future__ import annotations

from aya_lib.air import status
from aya_lib.air.cycle import turn
from aya_lib.air.daemon import alone
from aya_lib.air.link import laptop, open_ends
from aya_lib.air.local import Writer
from aya_lib.errors import Locked
from aya_lib.node import wait
from aya_lib.node.node import open_nodes
from aya_lib.site import Site

DEADLINE_S = 60.0


def sync(site: Site) -> str:
    """What was done, in a line. A running daemon is woken, and its next round waited for."""
    nodes, name = open_nodes(site), laptop(site)
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
