"""What an old primary has that the new one never received: its WAL from the divergence on, and the rows. Saved, with a report
of each time (:mod:`aya_lib.operations.rejoin.report`)."""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from psycopg import sql

from aya_lib.cluster import scratch, state
from aya_lib.cluster.server import Cluster, Files, look_control, look_files
from aya_lib.errors import AyaError, ChangeFailed
from aya_lib.node.node import Node
from aya_lib.node.shell import read
from aya_lib.node.sql import statement
from aya_lib.operations.rejoin.report import Report, Salvaged, TableSalvaged, parse
from aya_lib.operations.rejoin.waldump import Past, Touched, look_past

REPORT = "report.json"  # written last: a folder without it was left by a killed run
EXPORT_S = 3600  # one table that lost transactions touched is read as a whole
MANY = 200  # files in one cp


def place(node: Node) -> Path:
    """Below the site's folder for a node of this machine; beside the data directory on another, or under another account."""
    own = node.config.ssh is None and (os.geteuid() == 0 or node.account in (None, getpass.getuser()))
    return node.site.root / "saved" if own else node.data_directory.parent / "saved"


def look_salvage(node: Node) -> tuple[Salvaged, ...]:
    """The folders that there are of a node. Raises what the shell raises."""
    here = place(node)
    output = node.shell.run(["ls", "-1", "--", str(here)], account=node.account)
    if output.status != 0 and "No such file or directory" in output.stderr:
        return ()
    names = sorted(name for name in output.checked().stdout.split("\n") if name.startswith(f"{node.name}-"))
    return tuple(
        Salvaged(str(here / name), parse(read(node.shell, here / name / REPORT, account=node.account))) for name in names
    )


@dataclass(frozen=True)
class Save:
    """``folder``: its name below :func:`place`. ``leader``: the primary as it was seen, with its history; ``known``: names of the
    prepared transactions that it has too.

    Twice is harmless: what an unfinished run left in the folder is made anew, and the report is written last.
    """

    folder: str
    leader: Cluster
    known: tuple[str, ...] = ()

    def command(self, node: Node) -> str:
        return f"pg_waldump, cp pg_wal/... and SELECT ... WHERE xmin = ANY (...) into {place(node) / self.folder}"

    def run(self, node: Node) -> None:
        scratch.end(node, node.data_directory)
        folder = _empty(node, place(node) / self.folder)
        files = _files(node)
        fork, past = look_past(node, files, self.leader, int(look_control(node)["Bytes per WAL segment"]))
        if past is None:
            raise ChangeFailed(f"{node.name}: nothing past the divergence can be read")
        _copy(node, past.segments, folder / "wal")
        found = _rows(node, folder, past)
        report = Report(
            node=node.name,
            primary=self.leader.node,
            at=state.stamp(),
            system_identifier=files.system_identifier,
            timeline=files.timeline,
            fork=fork.lsn if fork else past.spans[0].start,
            end=past.end,
            left=_files(node).lsn,
            wal_bytes=past.bytes,
            segments=past.segments,
            commits=past.commits,
            tables=tuple(found.tables),
            untold="; ".join(why for why in (past.gone, *found.untold) if why),
            definitions=tuple(found.definitions),
            prepared=tuple(name for name in found.prepared if name not in self.known),
        )
        _write(node, folder / REPORT, asdict(report))


def _files(node: Node) -> Files:
    files = look_files(node)
    if not isinstance(files, Files):
        raise ChangeFailed(f"{node.name}'s data directory cannot be read: {files}")
    return files


def _empty(node: Node, folder: Path) -> Path:
    """The folder, empty, which only the cluster's account may enter: there are rows in it."""
    if folder.is_relative_to(node.site.root) and os.geteuid() == 0:  # this machine, as root: the account may not write there
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(folder, str(node.account))
    paths = [shlex.quote(str(path)) for path in (folder, folder / "wal", folder / "rows")]
    script = f"umask 077; mkdir -p {paths[0]} && rm -rf {paths[1]} {paths[2]} && mkdir {paths[1]} {paths[2]}"
    node.shell.run(["sh", "-c", script], account=node.account).checked()
    return folder


def _copy(node: Node, segments: Sequence[str], folder: Path) -> None:
    wal = node.data_directory / "pg_wal"
    for start in range(0, len(segments), MANY):
        files = [str(wal / name) for name in segments[start : start + MANY]]
        node.shell.run(["cp", "-p", "--", *files, str(folder)], account=node.account, timeout_s=EXPORT_S).checked()


@dataclass
class _Found:
    tables: list[TableSalvaged] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)


def _rows(node: Node, folder: Path, past: Past) -> _Found:
    """The rows, and why they could not be told: then they are in the WAL only, and the rejoin goes on."""
    found = _Found()
    if past.touched or past.prepared:
        try:
            with scratch.server(node, node.data_directory, folder) as sockets:
                _export(node, sockets, folder, past, found)
        except AyaError as error:
            found.untold.append(error.message)
    return found


def _export(node: Node, sockets: Path, folder: Path, past: Past, found: _Found) -> None:
    """Database by database: one that cannot be read, or a table, is told and does not end the rest."""
    names = json.loads(scratch.psql(node, sockets, "template1", "SELECT json_object_agg(oid, datname) FROM pg_database"))
    found.prepared = json.loads(
        scratch.psql(node, sockets, "template1", "SELECT coalesce(json_agg(gid), '[]') FROM pg_prepared_xacts")
    )
    for oid in sorted({touched.database for touched in past.touched} & {0, *(int(oid) for oid in names)}):
        touched = {file.filenode: file for file in past.touched if file.database == oid}
        variables = ("-v", "filenodes={" + ",".join(map(str, touched)) + "}", "-v", f"shared={'false' if oid else 'true'}")
        database = names[str(oid)] if oid else "template1"
        try:
            tables = json.loads(scratch.psql(node, sockets, database, statement(__package__, "touched_tables"), *variables))
        except AyaError as error:
            found.untold.append(f"{database}: {error.message}")
            continue
        for table in tables:
            if not table["rows"]:
                found.definitions.append(f"{database}: {table['name']}" if oid else f"{table['name']} of all databases")
                continue
            try:
                row = _table(node, sockets, folder, database, table, touched[table["filenode"]], past.xids)
                found.tables.append(row)
            except AyaError as error:
                found.untold.append(f"{database}: {table['name']}: {error.message}")


def _table(
    node: Node,
    sockets: Path,
    folder: Path,
    database: str,
    table: dict[str, object],
    touched: Touched,
    xids: Sequence[int],
) -> TableSalvaged:
    name = f"{table['schema']}.{table['name']}"
    plain = re.sub(r"[^\w.-]", "_", f"{database}.{name}", flags=re.ASCII)
    file = folder / "rows" / (f"{plain}.jsonl" if plain == f"{database}.{name}" else f"{plain}.{table['filenode']}.jsonl")
    query = rows_query(str(table["schema"]), str(table["name"]), [str(key) for key in table["key"]], xids)  # type: ignore[attr-defined]
    scratch.psql(node, sockets, database, query, "-o", str(file))
    output = node.shell.run(["wc", "-l", str(file)], account=node.account).checked()
    return TableSalvaged(database, name, int(output.stdout.split()[0]), touched.deleted, f"rows/{file.name}")


def rows_query(schema: str, table: str, key: Sequence[str], xids: Sequence[int]) -> str:
    """Rows of a table that one of the transactions wrote last, each as a line of JSON: table, key, xid, row."""
    columns = sql.SQL(", ").join(sql.SQL("{}, t.{}").format(sql.Literal(name), sql.Identifier(name)) for name in key)
    query = sql.SQL(
        "SELECT replace(json_build_object('table', {name}, 'key', json_build_object({columns}), 'xid', t.xmin::text,"
        " 'row', to_json(t))::text, E'\\n', ' ') FROM {table} AS t WHERE t.xmin = ANY ({xids}::xid[])"
    )
    values = {"columns": columns, "table": sql.Identifier(schema, table), "name": sql.Literal(f"{schema}.{table}")}
    return query.format(**values, xids=sql.Literal("{" + ",".join(map(str, xids)) + "}")).as_string(None)


def _write(node: Node, path: Path, content: dict[str, object]) -> None:
    """The report, after everything else is on the disk."""
    target = shlex.quote(str(path))
    script = f"umask 077; cat > {target}.new && sync && mv {target}.new {target}"
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    node.shell.run(["sh", "-c", script], stdin=text, account=node.account, timeout_s=EXPORT_S).checked()
