"""A table as the backup has it: its columns, its key, what it hangs together with, and the statements that make it anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

# pg_dump's entries that are made when the rows are there: an index is faster so, and IVFFlat takes its centroids from them.
# Everything else comes before, triggers too: the change log of the laptop is to see the rows.
AFTER = ("INDEX", "INDEX ATTACH", "FK CONSTRAINT")
ENTRY = re.compile(r"^--\n-- Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: .*\n--\n", re.MULTILINE)


@dataclass(frozen=True)
class Reference:
    """A foreign key of another table (``child``) that points here. ``cascades``: rows deleted here took those along."""

    child: str
    name: str
    definition: str
    cascades: bool


@dataclass(frozen=True)
class Definition:
    """``name``: with its schema. ``columns``: names and types, without those that are computed. ``keys``: of the primary key.
    ``parents``: tables that it refers to. ``sequences``: that it owns, and how far they were. ``before`` and ``after`` its rows:
    the statements that make it."""

    name: str
    columns: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]
    parents: tuple[str, ...]
    references: tuple[Reference, ...]
    sequences: Mapping[str, int]
    rows: int
    before: str = ""
    after: str = ""

    @property
    def identifier(self) -> sql.Identifier:
        return identifier(self.name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)


def identifier(name: str) -> sql.Identifier:
    """Of ``schema.table``; the schema is what stands before the first point."""
    return sql.Identifier(*name.split(".", 1))


def qualified(names: Iterable[str]) -> tuple[str, ...]:
    """As they were asked for, with their schema, each once."""
    asked = [name.strip() for name in names]
    return tuple(dict.fromkeys(name if "." in name else f"public.{name}" for name in asked if name))


def parsed(content: Mapping[str, Any]) -> Definition:
    """Of the JSON that ``definition.sql`` gives."""
    return Definition(
        content["name"],
        tuple((name, kind) for name, kind in content["columns"]),
        tuple(content["keys"]),
        tuple(content["parents"]),
        tuple(Reference(**one) for one in content["references"]),
        dict(content["sequences"]),
        content["rows"],
        content.get("before", ""),
        content.get("after", ""),
    )


def divided(dump: str) -> tuple[str, str]:
    """The statements of ``pg_dump --schema-only`` of one table: those before its rows, and those after."""
    found = list(ENTRY.finditer(dump))
    before: list[str] = []
    after: list[str] = []
    for entry, following in zip(found, [*found[1:], None], strict=True):
        text = dump[entry.end() : following.start() if following else len(dump)]
        text = re.sub(r"^(\\(un)?restrict .*|-- PostgreSQL database dump complete|--)$", "", text, flags=re.MULTILINE).strip()
        late = entry["type"] in AFTER or (entry["type"] == "COMMENT" and entry["name"].startswith("INDEX "))
        (after if late else before).append(text)
    return "\n".join(before), "\n".join(after)


def ordered(definitions: Iterable[Definition]) -> list[Definition]:
    """Parents first: documents before chunks. Of tables that refer to each other in a circle, as they came."""
    left = {one.name: one for one in definitions}
    found: list[Definition] = []
    while left:
        free = [one for one in left.values() if not set(one.parents) & (set(left) - {one.name})]
        for one in free or list(left.values())[:1]:
            found.append(left.pop(one.name))
    return found


def without(definitions: Iterable[Definition]) -> dict[str, list[str]]:
    """Tables that were not asked for -> those asked for with which their rows were deleted."""
    asked = list(definitions)
    names, found = {one.name for one in asked}, dict[str, list[str]]()
    for one in asked:
        for child in sorted({ref.child for ref in one.references if ref.cascades} - names):
            found.setdefault(child, []).append(one.name)
    return found
