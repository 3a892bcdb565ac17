"""Words as people type them: what of a question is an order, and which spellings find which texts in a real database."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from aya_lib.errors import UsageError
from aya_lib.knowledge import words
from aya_lib.knowledge.ask import ask
from aya_lib.knowledge.search import Filters, Searcher
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.node.sql import Connection
from aya_lib.plan.change import apply
from aya_lib.schema import knowledge as schema

TEXTS = [
    "The PostgresConnector class",
    "Set postgres_connector in my_app.conf",
    "run docker-compose.yml up",
    "pg_ctl -D /var/lib/postgresql/18/data -m fast",
    "A repli-\ncation slot keeps WAL for an asyn\u00adchronous standby",
    "Das Cafe\u0301 am Ufer, Müller, Straße",
    "The o\ufb03cial work\ufb02ow",
    "中文全文搜索引擎很好用",
    "ภาษาไทยไม่มีช่องว่าง",
    "version 18.1.2 of libfoo",
    "zw\u200bsp",
    "Log \x1b[31mcrim\x1b[0mson \x1b]0;owned\x07 done",
    "“quoted”—dash…ellipsis",
    "РЕПЛИКАЦИЯ",
    "std::vector<int>::push_back()",
    "CVE-2024-3094 of admin@example.org",
    "O\u2019Reilly, \uff26\uff35\uff2c\uff2c, x86_64",
]
FOUND_BY = {
    0: ["postgres connector", "PostgresConnector", "postgres_connector", "postgres-connector", "postgresconnector"],
    1: ["postgres connector", "PostgresConnector", "postgres_connector", "my app", "my_app.conf"],
    2: ["docker-compose", "docker compose", "dockercompose", "compose.yml"],
    3: ["pg_ctl -D ... -m fast", "postgresql/18/data", "fast -m", '"pg_ctl -D"'],
    4: ["replication", '"replication slot"', "asynchronous", "slot -logical"],
    5: ["café", "CAFE", "muller", "Mueller", "strasse"],
    6: ["official workflow"],
    7: ["搜索", "引擎", "搜", '"全文搜索"'],
    8: ["ภาษา"],
    9: ["18.1", "v18.1.2", "version 18"],
    10: ["zwsp"],
    11: ["crimson"],
    12: ["quoted", "ellipsis"],
    13: ["репликация"],
    14: ["push_back", "vector int"],
    15: ["cve 2024", "CVE-2024-3094", "example.org"],
    16: ["oreilly", "o'reilly", "full", "x86"],
}
NOTHING = ["...", "-", '""', "()&|!:*<->", "\\", "'", "the of and", "-slot", '"slot replication"', "slot -keeps", "😀", "'; --"]


@pytest.fixture
def texts(library: Nodes) -> Iterator[Connection]:
    """A table of its own in front of the real one, with the real trigger."""
    with library["ALPHA"].session(write=True, deadline_s=120) as connection:
        connection.execute("CREATE TEMP TABLE chunks (LIKE public.chunks INCLUDING DEFAULTS)")
        trigger = "CREATE TRIGGER t BEFORE INSERT OR UPDATE OF chunk_text, metadata ON chunks FOR EACH ROW"
        connection.execute(f"{trigger} EXECUTE FUNCTION aya_chunks_terms()".encode())
        query = "INSERT INTO chunks (id, chunk_text, document_id) SELECT %s, %s, min(id) FROM documents"
        connection.cursor().executemany(query, list(enumerate(TEXTS)))
        yield connection


def found(connection: Connection, query: str) -> list[int]:
    return [hit.chunk_id for hit in Searcher(connection).search(query, None, "text", 20)]


def test_each_spelling_finds_the_text_and_signs_find_nothing(texts: Connection) -> None:
    assert {(at, query) for at, queries in FOUND_BY.items() for query in queries if at not in found(texts, query)} == set()
    assert {query: found(texts, query) for query in NOTHING if found(texts, query)} == {}


def test_rare_words_and_titles_come_first_whether_the_table_was_analysed_or_not(texts: Connection) -> None:
    query = "INSERT INTO chunks (id, chunk_text, metadata, document_id) SELECT %s, %s, %s, min(id) FROM documents"
    common = [(100 + number, f"server server configuration {number}", '{"title": "x"}') for number in range(300)]
    rare = (500, "the quokka of a server", '{"title": "y"}')
    titled = [(501, "a zebra below", "[]"), (502, "words below", '{"title": "Zebra guide", "headings": []}')]
    texts.cursor().executemany(query, [*common, rare, *titled])
    for _ in range(2):
        assert found(texts, "server configuration quokka")[0] == 500
        assert found(texts, "zebra") == [502, 501]
        (quokka, _, server) = words.lexemes(texts, words.parse("server configuration quokka"))
        assert (quokka.chunks, server.chunks) == pytest.approx((1, 301), rel=0.05)
        texts.execute("ANALYZE chunks")
    texts.execute("""UPDATE chunks SET metadata = '{"title": "gnu"}' WHERE id = 500""")
    assert found(texts, "gnu") == [500]


def test_candidates_are_those_with_all_words_then_those_with_the_rarest(
    texts: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "INSERT INTO chunks (id, chunk_text, document_id)"
    query += " SELECT n, 'common ' || n, min(id) FROM generate_series(100, 400) n, documents GROUP BY n"
    texts.execute(query.encode())
    texts.execute("INSERT INTO chunks (id, chunk_text, document_id) SELECT 500, 'common treasure', min(id) FROM documents")
    monkeypatch.setattr(words, "CANDIDATES", 5)
    assert found(texts, "common treasure")[0] == 500
    assert found(texts, "common unheardof treasure")[0] == 500


def test_terms_of_before_are_made_again_and_a_second_time_nothing_is_written(library: Nodes) -> None:
    node = library["ALPHA"]
    with node.session(write=True) as connection:
        connection.execute("UPDATE chunks SET chunk_terms = 'old' WHERE id = (SELECT min(id) FROM chunks)")
        connection.execute("COMMENT ON COLUMN chunks.chunk_terms IS NULL")
        state = schema.read(connection, library.site)
        assert state.unfilled
        (step,) = schema.plan(node, state).changes
        for _ in range(2):
            step.action.run(node)
            newest = connection.execute("SELECT max(xmin::text::bigint) FROM chunks").fetchone()
            assert not schema.read(connection, library.site).unfilled
        step.action.run(node)
        assert connection.execute("SELECT max(xmin::text::bigint) FROM chunks").fetchone() == newest
        assert connection.execute("SELECT EXISTS (SELECT FROM chunks WHERE chunk_terms = 'old')").fetchone() == (False,)


def test_another_language_is_said_and_the_words_are_made_anew_while_they_are_searched(library: Nodes) -> None:
    site = library.site.model_copy(update={"knowledge": library.site.knowledge.model_copy(update={"language": "simple"})})
    for nodes, word in ((open_nodes(site), "'vacuuming'"), (library, "'vacuum'")):
        said = ask(nodes, "vacuuming", "text", 3)
        assert "Run: aya run ingest" in said.text()
        state = schema.look(nodes["ALPHA"])
        assert isinstance(state, schema.SchemaState)
        assert re.search(r"words of the chunks \(they are words 2, (english|simple)\)", ", ".join(state.missing()))
        apply(schema.plan(nodes["ALPHA"], state), nodes, lambda step, state, detail: None)
        assert schema.check("ALPHA", schema.look(nodes["ALPHA"])).status == "passed"
        assert ask(nodes, "vacuuming", "text", 3).notes == ()
        with nodes["ALPHA"].session() as connection:
            found = connection.execute("SELECT count(*) FROM chunks WHERE chunk_terms @@ %s::tsquery", (word,)).fetchone()
            assert found
            assert int(str(found[0])) > 0


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("pg_ctl -D ... -m fast", words.Asked("pg_ctl -D ... -m fast")),
        ("initdb --data-checksums -logical", words.Asked("initdb --data-checksums -logical")),
        ("vacuum -full -freeze ", words.Asked("vacuum", (), ("freeze", "full"))),
        ('a "b c" -"d e"', words.Asked("a b c", ("b c",), ("d e",))),
        ('19" rack', words.Asked('19" rack')),
        ("say “b c”, now", words.Asked("say , now b c", ("b c",))),
        ("tar -xzf backup.tar.gz", words.Asked("tar -xzf backup.tar.gz")),
    ],
)
def test_what_is_an_order_and_what_is_not(query: str, asked: words.Asked) -> None:
    found = words.parse(query)
    assert (" ".join(found.text.split()), found.phrases, found.without) == (asked.text, asked.phrases, asked.without)


@pytest.mark.parametrize("query", ["", " \t", "\x00\ud800", "word " * 50_000])
def test_an_empty_and_an_endless_question_are_refused_in_one_line(query: str) -> None:
    with pytest.raises(UsageError, match=r"the question (is empty|has 249999 characters, at most 20000 are read)"):
        words.clean(query)


@pytest.mark.parametrize(
    "given",
    [Filters(metadata={"a": float("nan")}), Filters(metadata={"a": "\0"}), Filters(metadata={"a": "\ud800"}), Filters("\0")],
)
def test_a_filter_that_no_document_could_match_is_refused_in_one_line(given: Filters) -> None:
    with pytest.raises(UsageError, match=r"no JSON|is in no document"):
        given.given()
