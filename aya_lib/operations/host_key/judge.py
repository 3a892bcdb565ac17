"""Is a node's SSH host key the one that the site names? No other is ever accepted."""

from __future__ import annotations

from aya_lib.check import Check, Judged, evaluate
from aya_lib.operations.host_key.look import HostKey, Offered

READ = "Read it on the node itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, and put it into site.yaml: ssh.fingerprint"
WRONG = "Another machine answers there, or it was set up anew. Compare on the node itself before you change the site"


def preconditions(found: Offered) -> list[Check]:
    """Before the key is accepted; nothing for a node that is this machine."""
    name, ssh = found.node, found.nodes[found.node].config.ssh
    if found.key is None or ssh is None:
        return []

    def right(key: HostKey) -> Judged:
        if ssh.fingerprint is None:
            known = key.known == (key.fingerprint,)
            return Judged("passed" if known else "failed", f"{key.fingerprint}{', known already' if known else ''}", READ)
        return Judged("passed" if key.fingerprint == ssh.fingerprint else "failed", key.fingerprint, WRONG)

    def alone(key: HostKey) -> Judged:
        others = [known for known in key.known if known != key.fingerprint]
        return Judged("failed" if others else "passed", ", ".join(key.known) or "none yet", f"ssh-keygen -R '{key.name}'")

    expected = ssh.fingerprint or "the site's ssh.fingerprint (it names none)"
    return [
        evaluate(f"{name} host key", expected, found.key, right),
        evaluate(f"{name} in known_hosts", "no other key", found.key, alone),
    ]
