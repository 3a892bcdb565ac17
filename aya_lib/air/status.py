"""What the sync daemon says of itself in a file, and what the laptop's database says beside it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

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

SILENT_S = 240.0  # without a sign of life: longer than a pause, and than a primary may leave a statement without an answer


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class DaemonState:
    """The daemon's own file. ``rounds``: that ended well, ``failures``: that did not; ``waiting``: why chunks could not be made.
    ``beat``: its last sign of life, by the monotonic clock of the machine, which nobody sets; ``doing``: what it did then.
    ``notices``: what is amiss between the sides; ``mended``: what was found different last, and fetched."""

    pid: int
    started: str
    online: bool = False
    primary: str | None = None
    rounds: int = 0
    last_success: str | None = None
    last_error: str | None = None
    waiting: str = ""
    paused_until: str | None = None
    failures: int = 0
    beat: float = 0.0
    doing: str = ""
    notices: list[str] = field(default_factory=list)
    mended: str = ""

    def succeeded(self, primary: str) -> None:
        self.online, self.primary, self.last_success = True, primary, now()
        self.rounds += 1

    def failed(self, error: str) -> None:
        self.online, self.last_error = False, error
        self.failures += 1

    def write(self, to: Path) -> None:
        """Whole or not at all; a full disk is seen by its age."""
        self.beat = time.monotonic()
        new = to.with_suffix(".new")
        with suppress(OSError):
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
    """``daemon`` is None when none runs; ``hung``: why one that runs does nothing, empty when it does."""

    site: str
    daemon: DaemonState | None
    queue: Queue | Missing
    hung: str = ""

    @property
    def well(self) -> bool:
        """It runs, gives signs of life, speaks with the primary, nothing was refused and nothing is amiss."""
        online = self.daemon is not None and self.daemon.online and not self.hung and not self.daemon.notices
        return online and isinstance(self.queue, Queue) and not self.queue.dead

    def json(self) -> dict[str, object]:
        daemon = asdict(self.daemon) if self.daemon else {"pid": None, "online": False}
        daemon |= {"hung": self.hung, "online": bool(daemon["online"] and not self.hung)}
        queue = asdict(self.queue) if isinstance(self.queue, Queue) else {"unseen": str(self.queue)}
        return {"schema": 1, "site": self.site, **daemon, **queue}

    @property
    def away(self) -> str:
        """Why it is not online."""
        if self.daemon is None:
            return "the daemon does not run"
        if self.hung:
            return self.hung
        if self.daemon.paused_until:
            return f"the primary is left alone until {self.daemon.paused_until} (aya air resume)"
        if self.daemon.doing.startswith(("push", "pull", "copy", "compare")):
            return f"a round is under way: {self.daemon.doing}"
        return f"offline: {self.daemon.last_error or 'the first round has not ended yet'}"

    def table(self) -> Table:
        daemon, queue, lines = self.daemon, self.queue, [("daemon", "does not run. Run: aya run air_setup")]
        if daemon:
            lines = [
                ("daemon", f"runs, PID {daemon.pid}, since {daemon.started}"),
                ("primary", f"online: {daemon.primary}" if daemon.online and not self.hung else self.away),
                *([("at work", daemon.doing)] if daemon.doing else []),
                ("last round that ended well", daemon.last_success or "none yet"),
                ("last error", daemon.last_error or "none"),
                *([("chunks wait", daemon.waiting)] if daemon.waiting else []),
                *(("amiss", notice) for notice in daemon.notices),
                *([("was fetched", daemon.mended)] if daemon.mended else []),
            ]
        if isinstance(queue, Queue):
            lines += [
                ("queued", str(queue.queued)),
                ("of these without chunks yet", str(queue.without_chunks)),
                ("refused (dead letters)", str(queue.dead)),
                ("conflicts not seen", str(queue.conflicts)),
                ("rows to fetch again", str(queue.to_fetch)),
                ("last change pulled", "never" if queue.synced_s is None else f"{max(0.0, queue.synced_s):.0f} s ago"),
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

    daemon = DaemonState.read(daemon_file(site))
    return Status(site.name, daemon, seen(node.name, "read the queue", ask), hung(daemon) if daemon else "")


def hung(daemon: DaemonState) -> str:
    """Why a daemon of this machine, whose process is there, does nothing; empty when it does."""
    with suppress(psutil.Error):
        if psutil.Process(daemon.pid).status() == psutil.STATUS_STOPPED:
            return f"the daemon is stopped. Run: kill -CONT {daemon.pid}"
    silent_s = time.monotonic() - daemon.beat
    if silent_s <= SILENT_S:
        return ""
    return f"no sign of life from the daemon for {silent_s:.0f} s (at {daemon.doing or 'rest'}). See its log, and the disk's room"


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
    return Status(site.name, DaemonState(**daemon) if content["pid"] else None, seen_there, content.get("hung", ""))
