"""What did not arrive: mutations that the primary refused, and versions that lost against its own."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.air.link import laptop, state
from aya_lib.errors import UsageError
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.sql import rows
from aya_lib.show import Table
from aya_lib.site import Site


@dataclass(frozen=True)
class Conflict:
    """A version kept whole in ``aya_sync.conflicts``. ``begins``: the start of its text."""

    id: int
    at: str
    kind: str
    document_id: int | None
    begins: str | None
    chunks: int


@dataclass(frozen=True)
class Dead:
    """A refused row of ``write_queue``. ``held``: later mutations of the same document that wait behind it."""

    id: int
    at: str
    operation: str | None
    document_id: int | None
    reason: str | None
    held: int


def _laptop(site: Site) -> Node:
    return open_nodes(site)[laptop(site)]


def conflicts(site: Site) -> list[Conflict]:
    """All of them, newest first, and mark them as seen."""
    with _laptop(site).session(write=True) as here:
        state(here)
        found = rows(here, __package__, "conflicts", Conflict)
        here.execute("UPDATE aya_sync.conflicts SET seen = true WHERE id = ANY (%s)", ([one.id for one in found],))
    return found


def dead(site: Site) -> list[Dead]:
    with _laptop(site).session() as here:
        state(here)
        return rows(here, __package__, "dead", Dead)


def retry(site: Site, mutation: int) -> str:
    """Queue a refused mutation again. :class:`UsageError` when there is none of that number."""
    with _laptop(site).session(write=True) as here:
        state(here)
        query = (
            "UPDATE write_queue SET state = 'queued', reason = NULL WHERE id = %s AND state = 'dead' AND NOT synced RETURNING id"
        )
        if not here.execute(query, (mutation,)).fetchone():
            known = ", ".join(str(one.id) for one in rows(here, __package__, "dead", Dead)) or "none"
            raise UsageError(f"no refused mutation {mutation}", hint=f"There are: {known}")
        here.execute("NOTIFY aya_queue")
    return f"mutation {mutation} is queued again"


def table(found: list[Conflict]) -> Table:
    lines = tuple((str(one.id), one.at, one.kind, str(one.document_id or ""), one.begins or "") for one in found)
    return Table("Versions that lost (whole in aya_sync.conflicts)", ("id", "at", "why", "document", "begins"), lines)


def dead_table(found: list[Dead]) -> Table:
    lines = tuple(
        (str(one.id), one.at, one.operation or "", str(one.document_id or ""), one.reason or "", str(one.held)) for one in found
    )
    return Table("Refused by the primary", ("mutation", "at", "operation", "document", "reason", "held back"), lines)
