"""Tables out of a scratch cluster into the live database, beside the present ones, as a stream through this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql
from psycopg.types.json import Jsonb

from aya_lib.cluster import scratch as server
from aya_lib.errors import CommandFailed, UsageError
from aya_lib.node import session as sessions
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, statement, value
from aya_lib.operations.restore_backup.tables.definition import Definition, divided, identifier, parsed
from aya_lib.operations.restore_backup.tables.look import beside, listed, said

DUMP_S = 60.0  # the definition of one table
PIECE = 1 << 16
MAKE = "CREATE TABLE {schema}.aya_definitions (place serial, name text PRIMARY KEY, definition jsonb NOT NULL)"


@dataclass(frozen=True)
class Scratch:
    """A scratch cluster on the keeper, by the folder of its socket."""

    node: Node
    sockets: Path

    def definition(self, name: str) -> Definition | None:
        """Of an ordinary table; None when there is none of that name."""
        schema, table = name.split(".", 1)
        words = ("-v", f"schema={schema}", "-v", f"name={table}")
        text = self._psql(statement(__package__, "definition"), *words)
        if not text:
            return None
        count = sql.SQL("SELECT count(*) FROM {}").format(identifier(name)).as_string()
        rows = int(self._psql(count))
        dump = self.node.postgresql(
            "pg_dump", *self._where, "--schema-only", "-t", identifier(name).as_string(), timeout_s=DUMP_S
        )
        before, after = divided(dump.checked().stdout)
        return parsed({**json.loads(text), "rows": rows, "before": before, "after": after})

    def rows_into(self, connection: Connection, found: Definition, target: sql.Identifier) -> None:
        """All rows, as text in settled sessions. Nothing is kept when the stream ended early: it was counted before."""
        columns = listed(found.names)
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(columns, found.identifier).as_string()
        argv = ["env", *sessions.environment(), *self.node.command("psql", "-X", "-q", "-w", *self._where, "-c", query)]
        process = self.node.shell.start(argv, account=self.node.account)
        with process, connection.cursor() as cursor:
            assert process.stdout
            assert process.stderr
            with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(target, columns)) as copy:
                while piece := process.stdout.buffer.read(PIECE):  # type: ignore[attr-defined]
                    copy.write(piece)
                if process.wait() != 0:
                    raise CommandFailed(self.node.name, ["psql"], process.returncode, process.stderr.read())
            if cursor.rowcount != found.rows:
                told = f"{cursor.rowcount} rows of {found.name} came, and the backup has {found.rows}"
                raise CommandFailed(self.node.name, ["psql"], 0, told)

    @property
    def _where(self) -> Sequence[str]:
        database = self.node.site.database
        port = str(self.node.config.postgresql.port)
        return ("-h", str(self.sockets), "-p", port, "-U", database.owner, "-d", database.name)

    def _psql(self, query: str, *words: str) -> str:
        return server.psql(self.node, self.sockets, self.node.site.database.name, query, *words)


def make(connection: Connection, schema: str, point: str) -> None:
    """A schema for the copies, which says of itself which point in time it holds. :class:`UsageError` where it is another's."""
    known = said(connection, schema)
    if known == point:
        return
    if known is not None:
        raise UsageError(f"the schema {schema} is there and holds something else: {known or 'it does not say what'}")
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), sql.Literal(point)))
        connection.execute(sql.SQL(MAKE).format(schema=sql.Identifier(schema)))


def copy(scratch: Scratch, connection: Connection, schema: str, name: str) -> None:
    """One table, whole or not at all, with its definition beside it; nothing when it is there."""
    definitions = sql.Identifier(schema, "aya_definitions")
    if value(connection, sql.SQL("SELECT true FROM {} WHERE name = %s").format(definitions), (name,)):
        return
    found = scratch.definition(name)
    if found is None:
        raise UsageError(f"the backup has no table {name}", hint="Tables are written as schema.table, in the letters they have")
    target = beside(schema, name)
    columns = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(one), sql.SQL(kind)) for one, kind in found.columns)
    with connection.transaction():
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(target, columns))
        scratch.rows_into(connection, found, target)
        if found.keys:
            connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(target, listed(found.keys)))
        content = Jsonb({**vars(found), "references": [vars(one) for one in found.references]})
        connection.execute(sql.SQL("INSERT INTO {} (name, definition) VALUES (%s, %s)").format(definitions), (name, content))
    connection.execute(sql.SQL("ANALYZE {}").format(target))
