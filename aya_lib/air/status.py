"""What the sync daemon says of itself in a file, and what the laptop's database says beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from aya_lib.air import ready
from aya_lib.air.link import Apart, laptop
from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.errors import AyaError, CommandFailed
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.node.pidfile import living
from aya_lib.node.process import daemon_file
from aya_lib.node.shell import Output
from aya_lib.node.sql import rows
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.show import Shown, Table
from aya_lib.site import Site

LOG = "See its log: air-sync.log"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Said:
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
        beside = to.with_suffix(".new")
        beside.write_text(json.dumps(asdict(self)), encoding="utf-8")
        beside.replace(to)


@dataclass(frozen=True)
class Depth:
    """Of the laptop's queue, and the age of the last round that ended with everything here, in seconds."""

    queued: int
    without_chunks: int
    dead: int
    conflicts: int
    to_fetch: int
    synced_s: float | None
    complete: bool  # the first copy has ended


@dataclass(frozen=True, repr=False)
class Status(Shown):
    """``said`` is None when no daemon runs."""

    site: str
    said: Said | None
    depth: Depth | Missing

    def json(self) -> dict[str, object]:
        said = asdict(self.said) if self.said else {"pid": None, "online": False}
        depth = asdict(self.depth) if isinstance(self.depth, Depth) else {"unseen": str(self.depth)}
        return {"schema": 1, "site": self.site, **said, **depth}

    @property
    def away(self) -> str:
        """Why it is not online."""
        if self.said is None:
            return "the daemon does not run"
        if self.said.paused_until:
            return f"the primary is left alone until {self.said.paused_until} (aya air resume)"
        return f"offline: {self.said.last_error or 'the first round has not ended yet'}"

    def table(self) -> Table:
        said, depth = self.said, self.depth
        lines: list[tuple[str, str]] = [("daemon", f"runs, PID {said.pid}, since {said.started}" if said else "does not run")]
        if said:
            lines.append(("primary", f"online: {said.primary}" if said.online else self.away))
            lines.append(("last round that ended well", said.last_success or "none yet"))
            lines.append(("last error", said.last_error or "none"))
            if said.waiting:
                lines.append(("chunks wait", said.waiting))
        if isinstance(depth, Depth):
            lines += [
                ("queued", str(depth.queued)),
                ("of these without chunks yet", str(depth.without_chunks)),
                ("refused (dead letters)", str(depth.dead)),
                ("conflicts not seen", str(depth.conflicts)),
                ("rows to fetch again", str(depth.to_fetch)),
                ("last change pulled", "never" if depth.synced_s is None else f"{depth.synced_s:.0f} s ago"),
            ]
        else:
            lines.append(("the laptop's database", str(depth)))
        return Table(f"Synchronisation of {self.site}", ("", "observed"), tuple(lines))


def look(site: Site) -> Status:
    """File and database, as they are now, by the laptop itself when it is another machine. A file whose process is gone is that
    of a killed daemon, and counts as none."""
    node = open_nodes(site)[laptop(site)]
    if node.wish.ssh:
        output = ready.run(node, ["air", "status", "--json"])
        return parse(site, node.name, output.stdout) if output.stdout.startswith("{") else _refused(output)

    def ask() -> Depth:
        with node.session() as connection:
            row = connection.execute("SELECT to_regclass('aya_sync.laptop') IS NOT NULL").fetchone()
            if not (row and row[0]):
                raise Apart(f"{node.name} is not set up for synchronisation", hint="Run: aya run air_setup")
            return rows(connection, __package__, "depth", Depth)[0]

    return Status(site.name, _said(daemon_file(site)), seen(node.name, "read the queue", ask))


def seen_at(nodes: Nodes) -> Status | Missing:
    """:func:`look`, as a fact."""
    site = nodes.site
    return seen(laptop(site), "aya air status", lambda: look(site))


def online(site: Site, found: Status | Missing) -> list[Check]:
    """The daemon speaks with the primary, everything was copied, and nothing was refused."""
    name = laptop(site)

    def speaks(one: Status) -> Judged:
        said = one.said
        return passed_if(bool(said and said.online), f"online: {said.primary}" if said and said.online else one.away, LOG)

    def here(one: Status) -> Judged:
        depth = one.depth
        return passed_if(isinstance(depth, Depth) and depth.complete, "everything" if isinstance(depth, Depth) else str(depth))

    def taken(one: Status) -> Judged:
        dead = one.depth.dead if isinstance(one.depth, Depth) else 0
        return passed_if(not dead, f"{dead} refused", "See: aya air refused")

    return [
        evaluate(f"{name} is online", "speaks with the primary", found, speaks),
        evaluate(f"{name} has the documents", "everything", found, here),
        evaluate(f"{name} queue", "0 refused", found, taken),
    ]


def parse(site: Site, name: str, text: str) -> Status:
    """What ``aya air status --json`` printed on the laptop."""
    content = json.loads(text)
    if "error" in content:
        raise AyaError(f"{name}: {content['error']['message']}", hint=content["error"]["hint"])
    said = {key: content[key] for key in Said.__dataclass_fields__ if key in content}
    depth = {key: content.get(key) for key in Depth.__dataclass_fields__}
    found = Unseen(name, "read the queue", content["unseen"]) if "unseen" in content else Depth(**depth)
    return Status(site.name, Said(**said) if content["pid"] else None, found)


def _refused(output: Output) -> NoReturn:
    output.checked()
    raise CommandFailed(output.node, output.argv, output.status, f"not this program's answer: {output.stdout}")


def _said(file: Path) -> Said | None:
    try:
        said = Said(**json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return said if living(said.pid) else None
