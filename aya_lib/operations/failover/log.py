"""The failover log: who, when, why, positions, timelines, and how long each step took; on disk and in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aya_lib.cluster import state
from aya_lib.cluster.overview import Overview
from aya_lib.cluster.server import Cluster
from aya_lib.node.node import Node, Nodes
from aya_lib.plan.change import Plan, change

TABLE = "CREATE TABLE IF NOT EXISTS aya_failovers (began text PRIMARY KEY, entry jsonb NOT NULL)"
INSERT = "INSERT INTO aya_failovers (began, entry) VALUES (%s, %s) ON CONFLICT (began) DO UPDATE SET entry = excluded.entry"


@dataclass(frozen=True)
class Entry:
    """Write an entry into the log and the primary's table ``aya_failovers``; then nothing is under way any more."""

    content: Mapping[str, Any]

    def command(self, node: Node) -> str:
        return f"add to {state.log_path(node.site).name} and to the table aya_failovers"

    def run(self, node: Node) -> None:
        with node.session(write=True) as connection, connection.transaction():
            connection.execute("SET LOCAL synchronous_commit = local")
            connection.execute(TABLE)
            connection.execute(INSERT, (str(self.content["began"]), json.dumps(self.content, default=str)))
        state.log(node.site, self.content)
        state.change(node.site, under_way=None)


def plan(nodes: Nodes, seen: Overview, record: Mapping[str, Any]) -> Plan:
    """The entry of what is under way; nothing when nothing is."""
    began = seen.state.under_way
    title = "Close the failover log"
    if not began:
        return Plan(title)
    new = nodes[str(began["new"])]
    found = seen.nodes[new.name].cluster
    where = (
        {"timeline": found.timeline, "lsn": found.lsn, "left": [vars(switch) for switch in found.history[-1:]]}
        if isinstance(found, Cluster)
        else {}
    )
    entry = {**began, "ended": state.stamp(), "reason": _reason(record), **where, "steps": durations(record)}
    return Plan(title, (change(new, "Write the failover log", Entry(entry)),), unwind=False)


def durations(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each change of a run record with its seconds."""
    started: dict[str, datetime] = {}
    found = []
    for step in record.get("steps", []):
        if step["kind"] != "change":
            continue
        at = datetime.fromisoformat(step["at"])
        if step["state"] == "started":
            started[step["title"]] = at
        elif step["title"] in started:
            seconds = (at - started[step["title"]]).total_seconds()
            found.append({"step": step["title"], "node": step["node"], "state": step["state"], "seconds": round(seconds, 3)})
    return found


def _reason(record: Mapping[str, Any]) -> str:
    return str(record.get("parameters", {}).get("reason", ""))
