"""Deeds that keep an old primary from accepting writes, and those that write down who is what."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aya_lib.cluster import state as standing
from aya_lib.cluster.state import MARK, Fence
from aya_lib.node import wait
from aya_lib.node.node import Node


@dataclass(frozen=True)
class Kill:
    """End a server that does not answer, with SIGKILL: thawed by an orderly stop, it would acknowledge what nobody else has."""

    pid: int

    def command(self, node: Node) -> str:
        return f"kill -KILL {self.pid} and its children"

    def run(self, node: Node) -> None:
        state = node.supervisor.state("postgresql")
        if state.pid is None:
            return
        script = f"pkill -KILL -P {state.pid}; kill -KILL {state.pid}"
        node.shell.run(["sh", "-c", script], account=node.account)
        wait.until(
            lambda: node.supervisor.state("postgresql").status,
            lambda status: status not in ("running", "frozen"),
            node=node.name,
            what=f"the server with PID {state.pid} is gone",
            deadline_s=node.site.deadlines.command_s,
        )


@dataclass(frozen=True)
class Autostart:
    """Whether a service starts by itself at boot and after it was killed."""

    on: bool
    service: str = "postgresql"

    def command(self, node: Node) -> str:
        return f"{'enable' if self.on else 'disable'} {node.supervisor.units[self.service]} at boot"

    def run(self, node: Node) -> None:
        (node.supervisor.enable if self.on else node.supervisor.disable)(self.service)


@dataclass(frozen=True)
class Mark:
    """A file in the node's data directory that says that it is fenced; read by every runbook and by the guard of its unit."""

    fence: Fence

    def command(self, node: Node) -> str:
        return f"write {node.data_directory / MARK}"

    def run(self, node: Node) -> None:
        target = shlex.quote(str(node.data_directory / MARK))
        text = json.dumps(asdict(self.fence), ensure_ascii=False) + "\n"
        script = f"cat > {target}.new && mv {target}.new {target}"
        node.shell.run(["sh", "-c", script], stdin=text, account=node.account).checked()


@dataclass(frozen=True)
class Unmark:
    def command(self, node: Node) -> str:
        return f"rm -f {node.data_directory / MARK}"

    def run(self, node: Node) -> None:
        node.shell.run(["rm", "-f", str(node.data_directory / MARK)], account=node.account).checked()


@dataclass(frozen=True)
class Remember:
    """Write the fence into the site's state."""

    fence: Fence

    def command(self, node: Node) -> str:
        return f"{standing.path(node.site).name}: {self.fence.node} is fenced ({self.fence.way})"

    def run(self, node: Node) -> None:
        standing.fence(node.site, self.fence)


@dataclass(frozen=True)
class Forget:
    name: str

    def command(self, node: Node) -> str:
        return f"{standing.path(node.site).name}: {self.name} is not fenced"

    def run(self, node: Node) -> None:
        standing.unfence(node.site, self.name)


@dataclass(frozen=True)
class Stand:
    """Change fields of the site's state: who is the primary, what is under way, which mode holds."""

    changes: Mapping[str, Any]

    def command(self, node: Node) -> str:
        told = ", ".join(f"{name} = {_short(value)}" for name, value in self.changes.items())
        return f"{standing.path(node.site).name}: {told}"

    def run(self, node: Node) -> None:
        standing.change(node.site, **self.changes)


@dataclass(frozen=True)
class Setting:
    """ALTER SYSTEM and a reload; ``value`` None resets it. Never waits for a standby."""

    name: str
    value: str | None

    def command(self, node: Node) -> str:
        return f"{self._statement}; SELECT pg_reload_conf()"

    def run(self, node: Node) -> None:
        with node.session(database="postgres", write=True) as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute(self._statement.encode())
            before = connection.execute("SELECT pg_conf_load_time()").fetchone()
            connection.execute("SELECT pg_reload_conf()")
            wait.until(
                lambda: connection.execute("SELECT pg_conf_load_time()").fetchone(),
                lambda now: now != before,
                node=node.name,
                what=f"{self.name} is read from its files",
                deadline_s=node.site.deadlines.command_s,
            )

    @property
    def _statement(self) -> str:
        if self.value is None:
            return f"ALTER SYSTEM RESET {self.name}"
        return f"ALTER SYSTEM SET {self.name} = '{self.value.replace(chr(39), chr(39) * 2)}'"


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(value.get(key, "")) for key in ("kind", "old", "new")).strip() or "..."
    return "none" if value is None else str(value)
