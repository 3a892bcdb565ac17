"""Accept a node's SSH host key: one line in known_hosts, written only after it was found equal to the site's fingerprint."""

from __future__ import annotations

from aya_lib.operations.host_key.actions import accept, forget
from aya_lib.operations.host_key.look import HostKey, Offered
from aya_lib.plan.actions import Nothing
from aya_lib.plan.change import Plan, change


def plan(found: Offered) -> Plan:
    """What is missing: the line, or nothing. Whether the key is the right one is for the preconditions before."""
    key = found.key
    if not isinstance(key, HostKey) or key.fingerprint in key.known:
        return Plan(f"{found.node} is known", ())
    undo = Nothing() if key.known else forget(key)
    title = f"Accept the host key {key.fingerprint}"
    return Plan("Accept the host key", (change(found.nodes[found.node], title, accept(key), undo=undo),))
