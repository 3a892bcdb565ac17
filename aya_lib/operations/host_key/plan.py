"""Accept a node's SSH host key: one line in known_hosts, written only after it was found equal to the site's fingerprint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aya_lib.node.node import Node, Nodes
from aya_lib.node.shell import Local
from aya_lib.node.unseen import Missing
from aya_lib.operations.host_key.look import HostKey
from aya_lib.plan.actions import Nothing
from aya_lib.plan.change import Plan, change


@dataclass(frozen=True)
class Accept:
    """Add a line to known_hosts, once."""

    line: str
    file: str

    def command(self, node: Node) -> str:
        return f"echo '{self.line}' >> {self.file}"

    def run(self, node: Node) -> None:
        path = Path(self.file)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = path.read_text(encoding="utf-8") if path.exists() else ""
        if self.line in there.splitlines():
            return
        ends = "" if not there or there.endswith("\n") else "\n"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            file.write(f"{ends}{self.line}\n")


@dataclass(frozen=True)
class Forget:
    """Take the keys of a name out of known_hosts again."""

    name: str
    file: str

    def command(self, node: Node) -> str:
        return f"ssh-keygen -R '{self.name}' -f {self.file}"

    def run(self, node: Node) -> None:
        Local(node.name).run(["ssh-keygen", "-R", self.name, "-f", self.file]).checked()


def plan(nodes: Nodes, name: str, found: HostKey | Missing | None) -> Plan:
    """What is missing: the line, or nothing. Whether the key is the right one is for the gate before."""
    if not isinstance(found, HostKey) or found.fingerprint in found.known:
        return Plan(f"{name} is known", ())
    undo = Nothing() if found.known else Forget(found.name, found.file)
    title = f"Accept the host key {found.fingerprint}"
    return Plan("Accept the host key", (change(nodes[name], title, Accept(found.line, found.file), undo=undo),))
