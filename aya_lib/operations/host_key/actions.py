"""A line in this machine's known_hosts, and its removal. Both are done here, whatever node they are about."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aya_lib.node.node import Node
from aya_lib.node.shell import Local


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
