"""What did not arrive: mutations that the primary refused, and versions that lost against its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aya_lib.air.link import laptop, state
from aya_lib.errors import UsageError
from aya_lib.node.node import open_nodes
from aya_lib.node.sql import Connection, rows, statement
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


@contextmanager
def _laptop(site: Site, *, write: bool = False) -> Iterator[Connection]:
    with open_nodes(site)[laptop(site)].session(write=write) as here:
        state(here)
        yield here


def conflicts(site: Site) -> list[Conflict]:
    """All of them, newest first, and mark them as seen."""
    with _laptop(site, write=True) as here:
        kept = rows(here, __package__, "conflicts", Conflict)
        here.execute("UPDATE aya_sync.conflicts SET seen = true WHERE id = ANY (%s)", ([conflict.id for conflict in kept],))
    return kept


def dead(site: Site) -> list[Dead]:
    with _laptop(site) as here:
        return rows(here, __package__, "dead", Dead)


def retry(site: Site, mutation: int) -> str:
    """Queue a refused mutation again. :class:`UsageError` when there is none of that number."""
    with _laptop(site, write=True) as here:
        if not here.execute(statement(__package__, "retry"), (mutation,)).fetchone():
            known = ", ".join(str(letter.id) for letter in rows(here, __package__, "dead", Dead)) or "none"
            raise UsageError(f"no refused mutation {mutation}", hint=f"There are: {known}")
        here.execute("NOTIFY aya_queue")
    return f"mutation {mutation} is queued again"


def conflict_table(kept: list[Conflict]) -> Table:
    lines = tuple((str(one.id), one.at, one.kind, str(one.document_id or ""), one.begins or "") for one in kept)
    return Table("Versions that lost (whole in aya_sync.conflicts)", ("id", "at", "why", "document", "begins"), lines)


def dead_table(letters: list[Dead]) -> Table:
    lines = tuple(
        (str(one.id), one.at, one.operation or "", str(one.document_id or ""), one.reason or "", str(one.held)) for one in letters
    )
    return Table("Refused by the primary", ("mutation", "at", "operation", "document", "reason", "held back"), lines)
