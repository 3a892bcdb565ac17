"""The SSH host key of a node: the one it offers, and those that are known. By OpenSSH's own programs; nothing is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aya_lib.errors import Unreachable
from aya_lib.node.node import Node, Nodes
from aya_lib.node.shell import Local
from aya_lib.node.unseen import Missing, seen
from aya_lib.show import Shown, Table

WAIT_S = 5


@dataclass(frozen=True)
class HostKey:
    """``line``: as it would stand in ``file``, the first of ssh's known_hosts files. ``known``: fingerprints of the ED25519
    keys that are known for ``name`` already."""

    name: str
    line: str
    fingerprint: str
    known: tuple[str, ...]
    file: str


@dataclass(frozen=True, repr=False)
class Offered(Shown):
    """What a node offers; ``key`` is None for one that is not reached by ssh."""

    nodes: Nodes
    node: str
    key: HostKey | Missing | None

    def table(self) -> Table:
        if not isinstance(self.key, HostKey):
            return Table(f"{self.node} is not reached by ssh" if self.key is None else f"Could not be seen: {self.key}")
        rows = (
            ("offered by the node", self.key.fingerprint),
            ("in known_hosts", ", ".join(self.key.known) or "none"),
            ("known_hosts", self.key.file),
        )
        return Table(f"Host key of {self.node} ({self.key.name})", ("", "observed"), rows)


def look(nodes: Nodes, node: str) -> Offered:
    """Ask a node that is reached by ssh for its key, and nothing else."""
    return Offered(nodes, node, seen(node, "ssh-keyscan", lambda: _read(nodes[node])) if nodes[node].config.ssh else None)


def _read(node: Node) -> HostKey:
    here, ssh = Local(node.name), node.config.ssh
    assert ssh
    words = ["ssh", *(["-F", str(ssh.config)] if ssh.config else []), *(["-p", str(ssh.port)] if ssh.port else [])]
    lines = here.run([*words, "-G", ssh.host]).checked().stdout.splitlines()
    options = dict(line.split(" ", 1) for line in lines if " " in line)
    host, port = options["hostname"], options["port"]
    name = options.get("hostkeyalias") or (host if port == "22" else f"[{host}]:{port}")
    scan = here.run(["ssh-keyscan", "-T", str(WAIT_S), "-t", "ed25519", "-p", port, host], timeout_s=3 * WAIT_S)
    keys = [line.split(" ", 1)[1] for line in scan.stdout.splitlines() if line and not line.startswith("#")]
    if not keys:
        complaints = [line for line in scan.stderr.splitlines() if not line.startswith("#")]
        raise Unreachable(node.name, f"ssh-keyscan {host}", complaints[-1] if complaints else "it offered no ED25519 key")
    line = f"{name} {keys[0]}"
    files = [str(Path(file).expanduser()) for file in options["userknownhostsfile"].split()]
    known = [key for file in files if Path(file).exists() for key in _known(here, name, file)]
    return HostKey(name, line, _fingerprints(here, line)[0], tuple(known), files[0])


def _known(here: Local, name: str, file: str) -> list[str]:
    lines = here.run(["ssh-keygen", "-F", name, "-f", file]).stdout.splitlines()
    return [key for line in lines if " ssh-ed25519 " in line for key in _fingerprints(here, line)]


def _fingerprints(here: Local, text: str) -> list[str]:
    """SHA256 fingerprints of lines of a known_hosts file, as ``ssh-keygen -l`` prints them."""
    printed = here.run(["ssh-keygen", "-l", "-E", "sha256", "-f", "/dev/stdin"], stdin=text + "\n").checked().stdout
    return [line.split()[1] for line in printed.splitlines()]
