"""Do the tables of both sides fit? Which columns travel, what differs, and what of the synchronisation rests until it is mended.

A column that only one side has, or has as another type, stays where it is. Nothing is pulled when a row could then not be stored
here, and nothing is pushed when something of the laptop's, or of the primary's chunks, would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.rows import class_row

from aya_lib.errors import AyaError
from aya_lib.node.sql import Connection, statement

TABLES = {"d": "documents", "c": "chunks"}  # by the letter that the log of changes has for them
DERIVED = {"chunk_terms"}  # kept by a trigger of the schema, on each side by itself
NEEDED = {  # by the synchronisation itself
    "documents": {"id", "content", "version", "created_at", "source_uri"},
    "chunks": {"id", "document_id", "chunk_text", "embedding", "chunk_index"},
}
MEND = "Make the laptop's table like the primary's"


class Apart(AyaError):
    """The two databases do not fit together; nothing is transferred until they do."""


@dataclass(frozen=True)
class Column:
    """``required``: it must be given a value: NOT NULL, and without a default."""

    name: str
    type: str
    generated: bool
    required: bool

    def __str__(self) -> str:
        return f"{self.type} generated" if self.generated else self.type


Table = Mapping[str, Column]


@dataclass(frozen=True)
class Fit:
    """``documents``, ``chunks``: the columns that travel. ``notes``: each column that does not, and where it is what. ``held``:
    why nothing is pushed; empty."""

    documents: tuple[str, ...]
    chunks: tuple[str, ...]
    notes: tuple[str, ...] = ()
    held: str = ""

    @property
    def names(self) -> list[str]:
        return [f"{table}.{name}" for table, names in (("documents", self.documents), ("chunks", self.chunks)) for name in names]


@dataclass(frozen=True)
class Columns:
    """What is compared. ``fresh``: the columns, as table.column, that were not compared when both sides were last equal."""

    fit: Fit
    fresh: tuple[str, ...] = ()


def columns(connection: Connection, table: str) -> dict[str, Column]:
    """Every column by its name, in the table's order."""
    with connection.cursor(row_factory=class_row(Column)) as cursor:
        found = cursor.execute(statement(__package__, "columns"), {"table": f"public.{table}"}).fetchall()
    return {column.name: column for column in found}


def look(primary: str, laptop: str, there: Connection, here: Connection) -> Fit:
    """Read both catalogs and judge. :class:`Apart` when not even rows of the primary can be stored here."""
    tables = {table: (columns(there, table), columns(here, table)) for table in TABLES.values()}
    return judge(primary, laptop, tables)


def judge(primary: str, laptop: str, tables: Mapping[str, tuple[Table, Table]]) -> Fit:
    """``tables``: of each the primary's columns, and the laptop's."""
    travelling: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    held: list[str] = []
    for table, (theirs, ours) in tables.items():
        names = [name for name in [*theirs, *(name for name in ours if name not in theirs)] if name not in DERIVED]
        travelling[table] = tuple(name for name in names if _carried(theirs.get(name), ours.get(name)))
        for name in names:
            there, here = theirs.get(name), ours.get(name)
            if name in travelling[table] or not _matters(there, here):
                continue
            note = f"{table}.{name} is {there or 'missing'} on {primary}, {here or 'missing'} on {laptop}"
            if name in NEEDED[table] or (here and here.required):
                raise Apart(note, hint=MEND)
            notes.append(note)
            if here or (there and (there.required or table == "chunks")):
                held.append(note)
    why = f"nothing is pushed until both sides are alike: {'; '.join(held)}" if held else ""
    return Fit(travelling["documents"], travelling["chunks"], tuple(notes), why)


def _carried(there: Column | None, here: Column | None) -> bool:
    return there is not None and here is not None and str(there) == str(here) and not there.generated


def _matters(there: Column | None, here: Column | None) -> bool:
    """Whether something could be amiss: a column that is computed wherever it is loses nothing."""
    return any(column is not None and not column.generated for column in (there, here))
