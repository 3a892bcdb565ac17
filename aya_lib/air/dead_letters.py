"""What did not arrive: mutations that the primary refused, and versions that lost against its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg.rows import dict_row

from aya_lib.air.link import laptop, state
from aya_lib.errors import UsageError
from aya_lib.node.node import open_nodes
from aya_lib.node.sql import Connection, statement
from aya_lib.show import Table
from aya_lib.site import Site

Row = dict[str, Any]  # the columns of conflicts.sql or dead.sql


@contextmanager
def _laptop(site: Site, *, write: bool = False) -> Iterator[Connection]:
    with open_nodes(site)[laptop(site)].session(write=write) as here:
        state(here)
        yield here


def _rows(here: Connection, name: str) -> list[Row]:
    with here.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement(__package__, name)).fetchall()


def conflicts(site: Site) -> list[Row]:
    """All versions that are kept whole in ``aya_sync.conflicts``, newest first, and mark them as seen."""
    with _laptop(site, write=True) as here:
        kept = _rows(here, "conflicts")
        here.execute("UPDATE aya_sync.conflicts SET seen = true WHERE id = ANY (%s)", ([conflict["id"] for conflict in kept],))
    return kept


def dead(site: Site) -> list[Row]:
    """The refused rows of ``write_queue``; ``held``: later mutations of the same document that wait behind one."""
    with _laptop(site) as here:
        return _rows(here, "dead")


def retry(site: Site, mutation: int) -> str:
    """Queue a refused mutation again. :class:`UsageError` when there is none of that number."""
    with _laptop(site, write=True) as here:
        if not here.execute(statement(__package__, "retry"), (mutation,)).fetchone():
            known = ", ".join(str(letter["id"]) for letter in _rows(here, "dead")) or "none"
            raise UsageError(f"no refused mutation {mutation}", hint=f"There are: {known}")
        here.execute("NOTIFY aya_queue")
    return f"mutation {mutation} is queued again"


def conflict_table(kept: list[Row]) -> Table:
    return _table("Versions that lost (whole in aya_sync.conflicts)", ("id", "at", "why", "document", "begins"), kept)


def dead_table(letters: list[Row]) -> Table:
    return _table("Refused by the primary", ("mutation", "at", "operation", "document", "reason", "held back"), letters)


def _table(title: str, columns: tuple[str, ...], rows: list[Row]) -> Table:
    """The first columns of the rows, under other names."""
    lines = ([str("" if value is None else value) for value in list(row.values())[: len(columns)]] for row in rows)
    return Table(title, columns, tuple(map(tuple, lines)))
