"""What the knowledge base adds to the schema, as a plan for a live database: each step is short, and safe to repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from psycopg import sql

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, rows, statement, value
from aya_lib.node.unseen import Missing, seen
from aya_lib.plan.actions import Sql
from aya_lib.plan.change import Change, Plan, change
from aya_lib.site import Site

INDEX_S = 3600  # how long building an index beside a live table may take
WORDS = "aya words 2"  # how words are made of a text, see words_of()
FIRST = -(2**31) - 1  # below every id: those of a laptop are negative

COLUMNS = {
    "documents_source_uri": "Add where a document came from and its content's hash",
    "chunks_terms": "Add the words of each chunk, kept by a trigger",
    "aya_settings": "Add the table of settings that go with the data",
}
INDEXES = {
    "idx_documents_source_uri": "Index documents by where they came from",
    "idx_chunks_terms": "Index the words of the chunks",
}


@dataclass(frozen=True)
class SchemaState:
    """What is there. An index is None when it is missing and False when a broken-off build left it invalid."""

    tables: bool
    documents_source_uri: bool
    chunks_terms: bool
    aya_settings: bool
    idx_documents_source_uri: bool | None
    idx_chunks_terms: bool | None
    dimension: int | None
    unfilled: bool = False  # whether chunks of before the trigger still lack their words, or have them made in another way
    words: str | None = None  # how the trigger makes words

    def missing(self) -> list[str]:
        names = [*COLUMNS, *INDEXES]
        before = f" (they are {self.words.removeprefix('aya ')})" if self.words and not self.chunks_terms else ""
        return [name for name in names if not getattr(self, name)] + ([f"words of the chunks{before}"] if self.unfilled else [])


def look(node: Node) -> SchemaState | Missing:
    """What the node's database has of it."""

    def ask() -> SchemaState:
        with node.session() as connection:
            return read(connection, node.site)

    return seen(node.name, "read the schema", ask)


def words_of(site: Site) -> str:
    """How words are made on this site: a comment of the trigger's function, and of the column once all rows are so."""
    return f"{WORDS}, {site.knowledge.language}"


def read(connection: Connection, site: Site) -> SchemaState:
    state = rows(connection, __package__, "knowledge/state", SchemaState, words=words_of(site))[0]
    if not state.chunks_terms or state.unfilled:
        return state
    return replace(state, unfilled=value(connection, "SELECT EXISTS (SELECT FROM chunks WHERE chunk_terms IS NULL)"))


def check(node: str, state: SchemaState | Missing) -> Check:
    def complete(found: SchemaState) -> Judged:
        missing = found.missing()
        return passed_if(not missing, f"missing: {', '.join(missing)}" if missing else "complete")

    hint = "The ingest runbook adds it"
    return evaluate(f"{node} has the schema of the knowledge base", "complete", state, complete, hint=hint)


def plan(node: Node, state: SchemaState) -> Plan:
    """The missing steps, in order. Columns and trigger take a short lock, indexes are built beside the table."""
    return Plan("What the knowledge base adds to the schema", tuple(_steps(node, state)), unwind=False)


def _steps(node: Node, state: SchemaState) -> Iterator[Change]:
    for name, title in COLUMNS.items():
        if not getattr(state, name):
            yield change(node, title, Sql(text(node.site, name), database=None))
    if state.unfilled or not state.chunks_terms:
        yield change(node, "Fill the words of the chunks that are there", FillTerms())
    for name, title in INDEXES.items():
        there = getattr(state, name)
        if there is False:
            drop = Sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", database=None, deadline_s=INDEX_S)
            yield change(node, f"Remove {name}, left invalid by a build that broke off", drop)
        if not there:
            yield change(node, title, Sql(text(node.site, name), database=None, deadline_s=INDEX_S))


def text(site: Site, name: str) -> str:
    """The statement of a step, for this site."""
    values = {
        "language": sql.SQL(site.knowledge.language),
        "role": sql.Identifier(site.database.application_role),
        "version": sql.SQL(words_of(site)),
    }
    return sql.SQL(statement(__package__, f"knowledge/{name}")).format(**values).as_string().strip()


@dataclass(frozen=True)
class FillTerms:
    """Make the words of chunks that have none or older ones, a thousand at a time, so that nobody waits long for a lock."""

    def command(self, node: Node) -> str:
        return (
            "UPDATE chunks SET chunk_terms = aya_chunk_terms(chunk_text, metadata)"
            " WHERE chunk_terms IS DISTINCT FROM aya_chunk_terms(chunk_text, metadata)  -- 1000 rows a transaction"
        )

    def run(self, node: Node) -> None:
        with node.session(write=True, deadline_s=INDEX_S) as connection:
            fill_terms(connection, node.site)


def fill_terms(connection: Connection, site: Site) -> None:
    """Make the words of every chunk that has none or older ones. Killed and run again, it writes only what is left."""
    after: object = FIRST
    while after is not None:
        with connection.transaction():
            connection.execute("SET LOCAL aya.applying = 'on'")  # on a laptop: nothing to be pushed
            after = value(connection, statement(__package__, "knowledge/missing_terms"), {"after": after})
    connection.execute(sql.SQL("COMMENT ON COLUMN chunks.chunk_terms IS {}").format(words_of(site)))
    connection.execute("ANALYZE chunks (chunk_terms)")  # how common each word is
