"""Search on a lab with the manual in it: by meaning, by words, fused, filtered, from a shell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from psycopg import sql

from aya_lib import settings
from aya_lib.embedding.files import open_files
from aya_lib.embedding.model import Tokenizer
from aya_lib.errors import Unreachable, UsageError
from aya_lib.knowledge import provenance
from aya_lib.knowledge.ask import Answer, ask, excerpt
from aya_lib.knowledge.search import MODES, Filters, Hit, Mode, Searcher
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.node.sql import Connection
from aya_lib.show import as_text
from aya_lib.site import load_site, read_yaml


@pytest.fixture(scope="module")
def connection(library: Nodes) -> Iterator[Connection]:
    with library["ALPHA"].session(deadline_s=300) as found:
        yield found


@pytest.fixture(scope="module")
def searcher(connection: Connection) -> Searcher:
    return Searcher(connection)


def scalar(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def some_vector() -> Any:
    vector = np.random.default_rng(3).normal(size=384).astype(np.float32)
    return vector / np.linalg.norm(vector)


def test_the_page_that_answers_is_found_by_each_way_of_searching(library: Nodes) -> None:
    for mode in MODES:
        answer = ask(library, "synchronous replication of a standby server", mode, 5)
        assert "warm-standby.html" in {str(hit.source).rsplit("/", 1)[-1] for hit in answer.hits}, mode
        assert len(answer.hits) == 5


def test_fused_scores_are_those_of_both_lists_and_a_documents_best_chunk_has_the_best_of_them(library: Nodes) -> None:
    query, depth = "vacuum, WAL archiving and backup of a server", 50
    hits = ask(library, query, "hybrid", 12).hits
    near, said = ask(library, query, "vector", depth).hits, ask(library, query, "text", depth).hits
    last, first = near[-1].score, near[0].score
    parts = {hit.chunk_id: [0.6 * (hit.score - last) / (first - last), 0.0, hit.document_id] for hit in near}
    for hit in said:
        parts.setdefault(hit.chunk_id, [0.0, 0.0, hit.document_id])[1] = 0.4 * hit.score / said[0].score
    seen: set[int] = set()
    for hit in hits:
        mine = [part for part in parts.values() if part[2] == hit.document_id]
        whole = max(part[0] for part in mine) + max(part[1] for part in mine)
        own = sum(parts[hit.chunk_id][:2])
        assert hit.score == pytest.approx(own if hit.document_id in seen else whole, abs=1e-6)
        seen.add(hit.document_id)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(seen) > 1
    assert any(hit.vector_rank and hit.text_rank for hit in hits)


def test_text_search_puts_all_words_before_some_and_knows_operators(library: Nodes) -> None:
    first = ask(library, "autovacuum wraparound xyzzy", "text", 3).hits
    assert first
    assert "wraparound" in first[0].content.lower()
    assert ask(library, '"no such phrase anywhere"', "text", 3).hits == ()
    without = ask(library, "vacuum -full", "text", 50).hits
    assert without
    assert not any(" full" in hit.content.lower() for hit in without)


@pytest.mark.parametrize("mode", MODES)
def test_a_filter_never_costs_a_result(mode: Mode, searcher: Searcher, connection: Connection) -> None:
    """The lab's own few documents among many others: all of them come back, whatever the index does."""
    there = scalar(
        connection, "SELECT count(*) FROM chunks c JOIN documents d ON d.id = document_id WHERE category = 'operations'"
    )
    hits = searcher.search("the", some_vector(), mode, 1000, Filters(category="operations"))
    assert 0 < there < 100
    assert {hit.category for hit in hits} <= {"operations"}
    if mode != "text":
        assert len(hits) == there


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("ivfflat (embedding vector_cosine_ops) WITH (lists = 50)", "vector"),
        ("hnsw (embedding vector_cosine_ops)", "vector"),
        ("ivfflat ((embedding::halfvec(384)) halfvec_cosine_ops) WITH (lists = 50)", "halfvec"),
        ("hnsw ((binary_quantize(embedding)::bit(384)) bit_hamming_ops)", "bit"),
    ],
)
def test_filters_hold_with_every_kind_of_index(method: str, kind: str, library: Nodes) -> None:
    """A filter that keeps one row in a hundred, in a session that must use the index."""
    with library["ALPHA"].session(write=True, deadline_s=120) as connection:
        connection.execute("CREATE TEMP TABLE chunks (LIKE public.chunks INCLUDING DEFAULTS)")
        connection.execute("INSERT INTO chunks SELECT * FROM public.chunks")
        connection.execute(b"CREATE INDEX ON chunks USING " + method.encode())
        connection.execute("CREATE TEMP TABLE documents AS SELECT * FROM public.documents")
        connection.execute("ALTER TABLE documents ADD PRIMARY KEY (id)")
        connection.execute("ANALYZE chunks, documents")
        connection.execute("SET enable_seqscan = off")
        rare = scalar(connection, "SELECT document_id FROM chunks GROUP BY 1 HAVING count(*) BETWEEN 5 AND 15 ORDER BY 1 LIMIT 1")
        connection.execute(sql.SQL("UPDATE documents SET category = 'rare' WHERE id = {}").format(sql.Literal(rare)))
        there = scalar(connection, f"SELECT count(*) FROM chunks WHERE document_id = {rare}")
        searcher = Searcher(connection)
        assert searcher.tuning.kind == kind
        found = searcher.search("x", some_vector(), "vector", there, Filters(category="rare"))
        assert len({hit.chunk_id for hit in found}) == there


def test_filters_by_metadata_and_by_date(searcher: Searcher) -> None:
    vector = some_vector()
    named = searcher.search(
        "the", vector, "hybrid", 5, Filters(metadata={"title": "Chapter 30. Reliability and the Write-Ahead Log"})
    )
    assert named
    assert {hit.metadata["title"] for hit in named} == {"Chapter 30. Reliability and the Write-Ahead Log"}
    assert searcher.search("the", vector, "vector", 5, Filters(since=datetime(2999, 1, 1))) == []
    assert len(searcher.search("the", vector, "vector", 5, Filters(until=datetime(2999, 1, 1)))) == 5


def test_the_probes_that_were_chosen_are_used_and_a_databases_own_setting_wins(library: Nodes) -> None:
    def probes() -> str:
        with library["ALPHA"].session() as connection:
            Searcher(connection)
            return str(scalar(connection, "SHOW ivfflat.probes"))

    def change(query: str) -> None:
        with library["ALPHA"].session(write=True) as connection:
            connection.execute(query.encode())

    assert probes() == "10"  # sqrt(lists), nobody chose
    try:
        change("INSERT INTO aya_settings VALUES ('search', '{\"probes\": 7}')")
        assert probes() == "7"
        change("ALTER DATABASE aya_rag SET ivfflat.probes = 3")
        assert probes() == "3"
    finally:
        change("DELETE FROM aya_settings WHERE key = 'search'")
        change("ALTER DATABASE aya_rag RESET ivfflat.probes")


def test_an_unfiltered_search_uses_the_vector_index(searcher: Searcher, connection: Connection) -> None:
    from pgvector import Vector

    from aya_lib.knowledge.search import composed

    values = {"query": "x", "language": "english", "vector": Vector(some_vector()), "limit": 5, "depth": 5}
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(sql.SQL("EXPLAIN ") + composed("vector", ()), values).fetchall()
    connection.execute("RESET enable_seqscan")
    assert "idx_chunks_embedding" in str(plan)


@pytest.mark.parametrize(("mode", "limit"), [("fuzzy", 5), ("vector", 0), ("vector", 1001)])
def test_what_cannot_be_asked_is_a_usage_error(mode: Any, limit: int, searcher: Searcher) -> None:
    with pytest.raises(UsageError, match="allowed"):
        searcher.search("x", some_vector(), mode, limit)


def test_the_command_line_gives_people_text_and_programs_json(library: Nodes) -> None:
    site = settings.parameters() / library["ALPHA"].site.name / "site.yaml"
    command = [sys.executable, "-m", "aya_lib", "search", "how to take a base backup", "--site", str(site), "--limit", "2"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(" 1. ")
    assert "similarity 0." in said
    assert said.rstrip().splitlines()[-1].startswith("2 results in ")
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert (found["count"], found["query"]) == (2, "how to take a base backup")
    wanted = {"document_id", "chunk_id", "content", "similarity", "category", "metadata", "source"}
    assert all(wanted <= set(result) for result in found["results"])
    odd = [*command, "--json", "--meta", "title=NaN"]
    assert json.loads(subprocess.run(odd, capture_output=True, text=True, check=True).stdout)["count"] == 0
    bad = subprocess.run([*command, "--meta", "x"], capture_output=True, text=True)
    assert (bad.returncode, bad.stderr) == (2, "aya: --meta x: allowed is KEY=VALUE, for example kind=pdf\n")


def test_the_standby_answers_when_the_primary_is_away(library: Nodes) -> None:
    library["ALPHA"].supervisor.stop("postgresql")
    try:
        assert ask(library, "base backup", "hybrid", 2).node == "BETA"
    finally:
        library["ALPHA"].supervisor.start("postgresql")


def test_an_excerpt_shows_the_lines_with_the_words_of_the_question() -> None:
    content = "\n\n".join([f"Paragraph {number} speaks of nothing." for number in range(20)] + ["Here is the replication slot."])
    assert "replication slot" in excerpt(content, "Which replication slots are there?")
    assert excerpt(content, "nothing").endswith(" …")


def test_what_plain_sql_wrote_without_metadata_is_found_by_its_words_at_once(library: Nodes) -> None:
    with library["ALPHA"].session(write=True) as connection:
        row = connection.execute("INSERT INTO documents (content, metadata) VALUES ('x', NULL) RETURNING id").fetchone()
        assert row
        values = (row[0], "A zeppelin carries the backups.")
        connection.execute("INSERT INTO chunks (document_id, chunk_text, metadata) VALUES (%s, %s, NULL)", values)
    try:
        (hit,) = ask(library, "zeppelins", "text", 3).hits
        assert (hit.document_id, hit.similarity, hit.metadata) == (row[0], None, {})
        assert "document" in ask(library, "zeppelins", "text", 3).text()
    finally:
        with library["ALPHA"].session(write=True) as connection:
            connection.execute("DELETE FROM documents WHERE id = %s", (row[0],))


def test_without_an_encoder_words_are_searched_and_that_is_said(library: Nodes, tmp_path: Path) -> None:
    content = read_yaml(settings.parameters() / library.site.name / "site.yaml")
    for node in content["nodes"].values():
        node.get("embedding", {})["port"] = 1
    (tmp_path / "away.yaml").write_text(yaml.safe_dump(content))
    away = open_nodes(load_site(str(tmp_path / "away.yaml")))
    said = ask(away, "take a base backup", "hybrid", 3)
    assert (len(said.hits), said.mode) == (3, "text")
    assert "Found by words alone: ALPHA is unreachable" in said.text()
    assert said.json()["notes"] == list(said.notes)
    silent = ask(away, "take a base backup", "text", 3)
    assert (silent.hits, silent.notes) == (said.hits, ())
    with pytest.raises(Unreachable, match="no embedding service is healthy"):
        ask(away, "take a base backup", "vector", 3)


def test_what_was_left_out_of_a_question_is_said(library: Nodes) -> None:
    words = " ".join({word for hit in ask(library, "vacuum", "text", 20).hits for word in hit.content.split()})
    assert re.search(r"has \d+ different words; the 64 rarest were looked for", ask(library, words[:19_000], "text", 3).text())
    assert "too common to be looked for" in ask(library, "of the", "text", 3).text()


def test_quotes_and_left_out_words_hold_for_meaning_too(library: Nodes) -> None:
    for query, there in (('"base backup"', True), ("backup of files -base", False)):
        hits = ask(library, query, "hybrid", 10).hits
        assert hits
        assert all(("base backup" in " ".join(hit.content.lower().split())) == there for hit in hits)


def test_vectors_of_the_text_alone_are_made_again_from_where_it_was_killed(library: Nodes) -> None:
    def one(query: str) -> Any:
        with library["ALPHA"].session(write=True) as connection:
            return scalar(connection, query)

    last = one("SELECT max(id) FROM chunks WHERE embedding IS NOT NULL")
    saved = one("SELECT value FROM aya_settings WHERE key = 'embedding'")
    vector = one(f"SELECT embedding::text FROM chunks WHERE id = {last}")
    one(f"UPDATE chunks SET embedding = array_fill(-1, ARRAY[384])::vector WHERE id = {last} RETURNING 1")
    again = f"value - 'text' || '{{\"again\": {last - 3}}}'"
    one(f"UPDATE aya_settings SET value = {again} WHERE key = 'embedding' RETURNING 1")
    with library["ALPHA"].session() as connection:
        assert provenance.read(connection).of_before
    provenance.EmbedAgain(library).run(library["ALPHA"])
    assert one("SELECT value FROM aya_settings WHERE key = 'embedding'") == saved
    assert one(f"SELECT embedding <=> '{vector}'::vector < 0.0001 FROM chunks WHERE id = {last}")


def test_a_passage_has_the_headings_that_fit_and_all_of_its_text(library: Nodes) -> None:
    tokenizer = Tokenizer(open_files(library.site.embedding))
    long = "word " * 240
    said = provenance.passages(
        tokenizer,
        [
            provenance.Passage("text", "Title", ("Title", "Part", "Chapter")),
            provenance.Passage(long, "A title that is far too long to fit in here beside it all", ("Part",)),
            provenance.Passage("word " * 254, "Title"),
            provenance.Passage("# Title\n\ntext", "Title", ("x" * 400,)),
        ],
    )
    assert said == ["Title > Part > Chapter\n\ntext", f"Part\n\n{long}", "word " * 254, "# Title\n\ntext"]


def test_a_document_never_steers_the_terminal() -> None:
    evil = "\x1b[31mred\x1b[0m \x9b2J\x1b]0;owned\x07 \u202egnp\u202c\r\ud800 end"
    metadata = {"title": evil, "headings": [evil], "page": evil}
    answer = Answer("x", "text", "ALPHA", (Hit(1, 1, evil, None, None, 1, 1.0, evil, evil, metadata),), 1, 1, (evil,))
    for shown in (answer.text(), as_text(answer.table())):
        assert "red" in shown
        assert "end" in shown
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800]|owned", shown)


def test_no_result_says_what_to_try() -> None:
    assert "Try --mode vector" in Answer("x", "text", "ALPHA", (), 1, 1).text()
