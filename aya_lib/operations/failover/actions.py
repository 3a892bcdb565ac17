"""What a failover waits for: the promotion, the last of the old primary's WAL; and the log of it, in two places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aya_lib.cluster import state
from aya_lib.cluster.lsn import number
from aya_lib.cluster.server import Files, look_files
from aya_lib.errors import ChangeFailed
from aya_lib.node import wait
from aya_lib.node.node import Node

POLL_S = 0.02
TABLE = "CREATE TABLE IF NOT EXISTS aya_failovers (began text PRIMARY KEY, entry jsonb NOT NULL)"
INSERT = "INSERT INTO aya_failovers (began, entry) VALUES (%s, %s) ON CONFLICT (began) DO UPDATE SET entry = excluded.entry"


@dataclass(frozen=True)
class Promote:
    """pg_promote without its own waiting, which says no where it is only slow: what counts is what the node is, until the
    deadline."""

    deadline_s: float

    def command(self, node: Node) -> str:
        return f"SELECT pg_promote(false), then wait until it accepts writes, at most {self.deadline_s:g} s"

    def run(self, node: Node) -> None:
        with node.session(database="postgres", write=True, deadline_s=self.deadline_s + 5) as connection:
            recovering = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            if recovering and recovering[0]:
                connection.execute("SELECT pg_promote(false)")
            wait.until(
                lambda: connection.execute("SELECT pg_is_in_recovery()").fetchone(),
                lambda row: row is not None and row[0] is False,
                node=node.name,
                what="it accepts writes",
                deadline_s=self.deadline_s,
                poll_s=POLL_S,
            )


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
