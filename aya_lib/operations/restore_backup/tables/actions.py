"""Bring tables of a backup beside the present ones, and what is missing into them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from aya_lib.backup import replay
from aya_lib.backup.held import held
from aya_lib.backup.look import folder
from aya_lib.errors import SqlFailed, UsageError
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, column, statement, value
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.operations.restore_backup.tables.copying import Scratch, copy, make
from aya_lib.operations.restore_backup.tables.definition import Definition, Reference, identifier, parsed
from aya_lib.operations.restore_backup.tables.look import DAY_S, beside, listed, said, same

# SQLSTATEs, PostgreSQL's appendix A.
HINTS = {
    "23503": "Nothing was inserted: name the table that it refers to as well",
    "23505": "Nothing was inserted: another row has that value by now; change one of them, then run it again",
}
NOT_VALID = "ALTER TABLE {child} ADD CONSTRAINT {name} {definition} NOT VALID"


@dataclass(frozen=True)
class Fetch:
    """Restore a scratch copy on the keeper, copy the tables that are not there yet into the schema, and remove the scratch."""

    aim: Aim
    keeper: Node
    schema: str
    tables: tuple[str, ...]

    def command(self, node: Node) -> str:
        return f"CREATE TABLE {self.schema}.*; COPY ... FROM STDIN, out of {self._into}"

    def run(self, node: Node) -> None:
        aim, into = self.aim, self._into
        with held(self.keeper, folder(node.site), "restore_backup"):
            replay.restore(self.keeper, aim.repository, aim.backup, aim.target, into)
            # Right before the commit of a DROP TABLE its lock is held: only a promotion gives it back.
            replay.aim(self.keeper, aim.repository, aim.backup, aim.target, into, promote=True)
            with (
                replay.scratch(self.keeper, into) as sockets,
                node.session(write=True, deadline_s=DAY_S) as connection,
            ):
                connection.execute("SET statement_timeout = 0")
                make(connection, self.schema, aim.point)
                for name in self.tables:
                    copy(Scratch(self.keeper, sockets), connection, self.schema, name)
            replay.remove(self.keeper, into)

    @property
    def _into(self) -> Path:
        return folder(self.keeper.site) / "restore"


@dataclass(frozen=True)
class Merge:
    """Insert what the present tables lack, parents first, in one transaction; a table that was dropped is made again. What is
    there already is neither changed nor deleted, and no sequence goes back."""

    schema: str
    tables: tuple[str, ...]

    def command(self, node: Node) -> str:
        inserts = [
            f"INSERT INTO {name} SELECT ... FROM {beside(self.schema, name).as_string()} WHERE the key is not there"
            for name in self.tables
        ]
        return f"BEGIN; {'; '.join(inserts)}; COMMIT"

    def run(self, node: Node) -> None:
        try:
            with node.session(write=True, deadline_s=DAY_S) as connection:
                connection.execute("SET statement_timeout = 0; SET row_security = off")
                found = {one.name: one for one in definitions(connection, self.schema)}
                with connection.transaction():
                    for name in self.tables:
                        _merge(connection, self.schema, found[name])
                    for reference in [each for name in self.tables for each in found[name].references]:
                        _refer(connection, reference)
                for name in self.tables:
                    connection.execute(sql.SQL("ANALYZE {}").format(identifier(name)))
        except SqlFailed as error:
            hint = HINTS.get(error.sqlstate or "", f"Nothing was inserted; the copies are in the schema {self.schema}")
            raise SqlFailed(error.node, error.reason, sqlstate=error.sqlstate, hint=hint) from None


@dataclass(frozen=True)
class Clear:
    """Remove the copies: tables that the schema says are ours, one by one, then the schema. Anything else in it, or anything
    that somebody made of them, stops it."""

    schema: str

    def command(self, node: Node) -> str:
        return f"DROP TABLE {self.schema}.*; DROP SCHEMA {self.schema}"

    def run(self, node: Node) -> None:
        with node.session(write=True) as connection, connection.transaction():
            known = said(connection, self.schema)
            if known is None:
                return
            if not known.startswith("aya: "):
                raise UsageError(f"the schema {self.schema} is not one of ours: {known or 'it does not say what it is'}")
            own = [beside(self.schema, one.name) for one in definitions(connection, self.schema)]
            for table in (*own, sql.Identifier(self.schema, "aya_definitions")):
                connection.execute(sql.SQL("DROP TABLE {}").format(table))
            connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(self.schema)))


def definitions(connection: Connection, schema: str) -> list[Definition]:
    query = sql.SQL("SELECT definition FROM {} ORDER BY place").format(sql.Identifier(schema, "aya_definitions"))
    return [parsed(content) for content in column(connection, query)]


def _merge(connection: Connection, schema: str, found: Definition) -> None:
    live = value(connection, statement(__package__, "live"), {"name": found.identifier.as_string()})
    if live is None:
        connection.execute(found.before.encode())
    columns = tuple(name for name in found.names if live is None or name in live)
    query = sql.SQL(statement(__package__, "missing")).format(
        live=found.identifier,
        kept=beside(schema, found.name),
        columns=listed(columns),
        same=same(found.keys) if found.keys else sql.SQL("false"),
        order=listed(found.keys) if found.keys else sql.SQL("1"),
    )
    connection.execute(query)
    if live is None and found.after:
        connection.execute(found.after.encode())
    for name, last in found.sequences.items():
        if value(connection, "SELECT to_regclass(%s) IS NOT NULL", (name,)):
            connection.execute(statement(__package__, "sequence"), {"name": name, "least": last})


def _refer(connection: Connection, one: Reference) -> None:
    """A foreign key of another table that was dropped with the one it points to: for new rows at once."""
    child = identifier(one.child)
    if not value(connection, statement(__package__, "lacking"), {"child": child.as_string(), "name": one.name}):
        return
    text = sql.SQL(one.definition.removesuffix(" NOT VALID"))
    connection.execute(sql.SQL(NOT_VALID).format(child=child, name=sql.Identifier(one.name), definition=text))
