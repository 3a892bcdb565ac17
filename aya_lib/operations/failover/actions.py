"""What a failover waits for: the promotion, the last of the old primary's WAL; and the log of it, in two places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aya_lib.cluster import state
from aya_lib.cluster.lsn import number
from aya_lib.cluster.server import Files, look_files
from aya_lib.cluster.standby import Recovery, look_recovery
from aya_lib.errors import AyaError, ChangeFailed, DeadlinePassed, NoWayBack, SqlFailed
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.sql import value
from aya_lib.plan.actions import Service

POLL_S = 0.02
TABLE = "CREATE TABLE IF NOT EXISTS aya_failovers (began text PRIMARY KEY, entry jsonb NOT NULL)"
INSERT = "INSERT INTO aya_failovers (began, entry) VALUES (%s, %s) ON CONFLICT (began) DO UPDATE SET entry = excluded.entry"


@dataclass(frozen=True)
class Promote:
    """pg_promote without its own waiting, which says no where it is only slow: what counts is what the node is.

    It cannot be taken back: that it is called is written down before, and whatever fails afterwards is :class:`NoWayBack`, which
    leaves the old primary fenced. ``deadline_s``: how long it may take without replaying anything more.
    """

    deadline_s: float

    def command(self, node: Node) -> str:
        return f"SELECT pg_promote(false), then wait until it accepts writes, at most {self.deadline_s:g} s without progress"

    def run(self, node: Node) -> None:
        called = accepted = False
        again = f"Run failover again: it looks and waits on. What never ends, a restart of {node.name}'s PostgreSQL ends"
        try:
            with node.session(database="postgres", write=True) as connection:
                if not value(connection, "SELECT pg_is_in_recovery()"):
                    return
                called = _written_down(node)
                connection.execute("SELECT pg_promote(false)")
                accepted = True
            self._wait(node)
        except AyaError as error:
            if not called or (isinstance(error, SqlFailed) and not accepted):
                raise  # not asked, or refused: it stays a standby
            raise NoWayBack(f"pg_promote was called and cannot be taken back. {error.message}", hint=again) from None

    def _wait(self, node: Node) -> None:
        replayed = ""
        while True:
            try:
                with node.session(database="postgres", deadline_s=self.deadline_s + node.site.deadlines.statement_s) as session:
                    wait.until(
                        lambda: value(session, "SELECT pg_is_in_recovery()"),
                        lambda recovers: recovers is False,
                        node=node.name,
                        what="it accepts writes",
                        deadline_s=self.deadline_s,
                        poll_s=POLL_S,
                    )
                return
            except DeadlinePassed:
                now = look_recovery(node)
                if not isinstance(now, Recovery) or now.replayed_lsn == replayed:
                    raise ChangeFailed(f"It takes longer than {self.deadline_s:g} s: {now}") from None
                replayed = now.replayed_lsn


def _written_down(node: Node) -> bool:
    """From here on the failover under way cannot be taken back; whoever runs next reads so."""
    began = state.read(node.site).under_way
    if began:
        state.change(node.site, under_way={**began, "promoting": state.stamp()})
    return True


@dataclass(frozen=True)
class StopOrderly:
    """Ask the primary to stop. That cannot be taken back either: what keeps it is named, and nothing is undone meanwhile."""

    def command(self, node: Node) -> str:
        return Service("stop", "postgresql").command(node)

    def run(self, node: Node) -> None:
        pid = node.supervisor.state("postgresql").pid
        try:
            Service("stop", "postgresql").run(node)
        except AyaError as error:
            listed = node.shell.run(["ps", "-A", "-o", "ppid=,pid=,command="], account=node.account).stdout.splitlines()
            left = [line.split(maxsplit=1)[1] for line in listed if line.split()[0] == str(pid)]
            waits = [one for one in left if "walsender" in one or "archiver" in one]
            hint = f"End it on {node.name} (kill PID), then run failover again, or with take_back=true once {node.name} is down"
            raise NoWayBack(
                f"{node.name} was told to stop and waits for {'; '.join(waits) or error.message}", hint=hint
            ) from None


@dataclass(frozen=True)
class CatchUp:
    """The standby has received all that the old primary wrote before it stopped in an orderly way."""

    old: Node

    def command(self, node: Node) -> str:
        return f"wait until {node.name} has {self.old.name}'s last checkpoint"

    def run(self, node: Node) -> None:
        files = look_files(self.old)
        if not isinstance(files, Files):
            raise ChangeFailed(f"{self.old.name}'s last position cannot be seen: {files}")
        if not files.clean:
            raise ChangeFailed(f"{self.old.name} did not stop in an orderly way: {files.state}")
        with node.session(database="postgres") as connection:
            wait.until(
                lambda: str((connection.execute("SELECT pg_last_wal_receive_lsn()").fetchone() or ("0/0",))[0]),
                lambda lsn: number(lsn) > number(files.lsn),
                node=node.name,
                what=f"it has received {files.lsn}",
                deadline_s=node.site.deadlines.command_s,
                poll_s=POLL_S,
            )


@dataclass(frozen=True)
class Close:
    """Write the entry into the primary's table ``aya_failovers`` and into the log; then nothing is under way any more."""

    entry: Mapping[str, Any]

    def command(self, node: Node) -> str:
        return f"add to {state.log_path(node.site).name} and to the table aya_failovers"

    def run(self, node: Node) -> None:
        entry = {**self.entry, "ended": state.stamp()}
        with node.session(write=True) as connection, connection.transaction():
            connection.execute("SET LOCAL synchronous_commit = local")
            connection.execute(TABLE)
            connection.execute(INSERT, (str(entry["began"]), json.dumps(entry, default=str)))
        state.log(node.site, entry)
        state.change(node.site, under_way=None)


def durations(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each change of a run record with its seconds."""
    started: dict[str, datetime] = {}
    steps = []
    for step in record.get("steps", []):
        if step["kind"] != "change":
            continue
        at = datetime.fromisoformat(step["at"])
        if step["state"] == "started":
            started[step["title"]] = at
        elif step["title"] in started:
            seconds = round((at - started[step["title"]]).total_seconds(), 3)
            steps.append({"step": step["title"], "node": step["node"], "state": step["state"], "seconds": seconds})
    return steps
