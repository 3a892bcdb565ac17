"""A line in this machine's known_hosts, and its removal. Both are done here, whatever node they are about."""

from __future__ import annotations

import os
from pathlib import Path

from aya_lib.node.shell import Local
from aya_lib.operations.host_key.look import HostKey
from aya_lib.plan.actions import Call


def accept(key: HostKey) -> Call:
    """Add the key's line to known_hosts, once."""
    return Call(f"echo '{key.line}' >> {key.file}", lambda node: _add(Path(key.file), key.line))


def forget(key: HostKey) -> Call:
    """Take the keys of its name out of known_hosts again."""
    words = ["ssh-keygen", "-R", key.name, "-f", key.file]
    return Call(f"ssh-keygen -R '{key.name}' -f {key.file}", lambda node: Local(node.name).run(words).checked())


def _add(path: Path, line: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    if line in there.splitlines():
        return
    ends = "" if not there or there.endswith("\n") else "\n"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
        file.write(f"{ends}{line}\n")
