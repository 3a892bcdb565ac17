"""What the sync daemon says of itself in a file, and what the laptop's database says beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from aya_lib.air import ready
from aya_lib.air.fit import Apart
from aya_lib.air.link import laptop, schema_version
from aya_lib.errors import AyaError, CommandFailed
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.node.pidfile import living
from aya_lib.node.process import daemon_file
from aya_lib.node.sql import rows
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.show import Shown, Table
from aya_lib.site import Site


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class DaemonState:
    """The daemon's own file. ``rounds``: that ended well; ``waiting``: why chunks could not be made."""

    pid: int
    started: str
    online: bool = False
    primary: str | None = None
    rounds: int = 0
    last_success: str | None = None
    last_error: str | None = None
    waiting: str = ""
    paused_until: str | None = None

    def succeeded(self, primary: str) -> None:
        self.online, self.primary, self.last_success = True, primary, now()
        self.rounds += 1

    def failed(self, error: str) -> None:
        self.online, self.last_error = False, error

    def write(self, to: Path) -> None:
        """Whole or not at all."""
        new = to.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)), encoding="utf-8")
        new.replace(to)

    @classmethod
    def read(cls, file: Path) -> DaemonState | None:
        """None when none runs: a file whose process is gone is that of a killed daemon."""
        try:
            daemon = cls(**json.loads(file.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return daemon if living(daemon.pid) else None


@dataclass(frozen=True)
class Queue:
    """The laptop's, and the age of the last round that ended with everything here, in seconds. ``complete``: the first copy has
    ended."""

    queued: int
    without_chunks: int
    dead: int
    conflicts: int
    to_fetch: int
    synced_s: float | None
    complete: bool


@dataclass(frozen=True, repr=False)
class Status(Shown):
    """``daemon`` is None when none runs."""

    site: str
    daemon: DaemonState | None
    queue: Queue | Missing

    @property
    def well(self) -> bool:
        """It runs, speaks with the primary, and nothing was refused."""
        online = self.daemon is not None and self.daemon.online
        return online and isinstance(self.queue, Queue) and not self.queue.dead

    def json(self) -> dict[str, object]:
        daemon = asdict(self.daemon) if self.daemon else {"pid": None, "online": False}
        queue = asdict(self.queue) if isinstance(self.queue, Queue) else {"unseen": str(self.queue)}
        return {"schema": 1, "site": self.site, **daemon, **queue}

    @property
    def away(self) -> str:
        """Why it is not online."""
        if self.daemon is None:
            return "the daemon does not run"
        if self.daemon.paused_until:
            return f"the primary is left alone until {self.daemon.paused_until} (aya air resume)"
        return f"offline: {self.daemon.last_error or 'the first round has not ended yet'}"

    def table(self) -> Table:
        daemon, queue, lines = self.daemon, self.queue, [("daemon", "does not run")]
        if daemon:
            lines = [
                ("daemon", f"runs, PID {daemon.pid}, since {daemon.started}"),
                ("primary", f"online: {daemon.primary}" if daemon.online else self.away),
                ("last round that ended well", daemon.last_success or "none yet"),
                ("last error", daemon.last_error or "none"),
                *([("chunks wait", daemon.waiting)] if daemon.waiting else []),
            ]
        if isinstance(queue, Queue):
            lines += [
                ("queued", str(queue.queued)),
                ("of these without chunks yet", str(queue.without_chunks)),
                ("refused (dead letters)", str(queue.dead)),
                ("conflicts not seen", str(queue.conflicts)),
                ("rows to fetch again", str(queue.to_fetch)),
                ("last change pulled", "never" if queue.synced_s is None else f"{queue.synced_s:.0f} s ago"),
            ]
        else:
            lines.append(("the laptop's database", str(queue)))
        return Table(f"Synchronisation of {self.site}", ("", "observed"), tuple(lines))


def look(site: Site) -> Status:
    """File and database, as they are now, by the laptop itself when it is another machine."""
    node = open_nodes(site)[laptop(site)]
    if node.config.ssh:
        output = ready.run(node, ["air", "status", "--json"])
        if output.stdout.startswith("{"):
            return parse(site, node.name, output.stdout)
        output.checked()
        raise CommandFailed(output.node, output.argv, output.status, f"not this program's answer: {output.stdout}")

    def ask() -> Queue:
        with node.session() as connection:
            if schema_version(connection, "laptop") is None:
                raise Apart(f"{node.name} is not set up for synchronisation", hint="Run: aya run air_setup")
            return rows(connection, __package__, "queue", Queue)[0]

    return Status(site.name, DaemonState.read(daemon_file(site)), seen(node.name, "read the queue", ask))


def look_at(nodes: Nodes) -> Status | Missing:
    """:func:`look`, of opened nodes; a laptop that cannot be asked is unseen."""
    return seen(laptop(nodes.site), "aya air status", lambda: look(nodes.site))


def parse(site: Site, name: str, text: str) -> Status:
    """What ``aya air status --json`` printed on the laptop."""
    content = json.loads(text)
    if "error" in content:
        raise AyaError(f"{name}: {content['error']['message']}", hint=content["error"]["hint"])
    daemon = {key: content[key] for key in DaemonState.__dataclass_fields__ if key in content}
    queue = {key: content.get(key) for key in Queue.__dataclass_fields__}
    seen_there = Unseen(name, "read the queue", content["unseen"]) if "unseen" in content else Queue(**queue)
    return Status(site.name, DaemonState(**daemon) if content["pid"] else None, seen_there)
