"""How good and how fast search is, beside what it was: MRR of the right document on five sets of documents, and latencies.

Development, on which weights and the way of fusing were chosen: pages of PostgreSQL's manual (Debian's postgresql-doc-15),
READMEs of installed packages, SQLite's pages (sqlite3-doc). Hold-out, which chose nothing: Git's pages (git-doc) and the Markdown
of Node.js and npm. One author's questions, written from the documents' names before any was asked. A package that is not
installed may be unpacked below AYA_BENCH_DOCS (dpkg -x).

Before: the text alone embedded, words ranked by cover density without document frequencies. By ranks: the lists of now, fused by
reciprocal rank. Differences have a paired bootstrap interval over the questions. Latencies: 50,000 chunks, the same ones copied,
one client.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from aya_lib import lab as labs
from aya_lib import schema
from aya_lib.embedding.model import Model, load
from aya_lib.knowledge import words
from aya_lib.knowledge.chunking import Chunker
from aya_lib.knowledge.decoding import Unreadable
from aya_lib.knowledge.provenance import Passage, passages
from aya_lib.knowledge.reading import read
from aya_lib.knowledge.search import MODES, Searcher
from aya_lib.lab.new import new
from aya_lib.node.node import open_nodes
from aya_lib.node.sql import Connection
from aya_lib.runbook.refresh import model_site
from aya_lib.site import Site
from benchmarks.knowledge import on_cpu

RESULTS = Path(__file__).with_suffix(".json")
QUESTIONS = json.loads(Path(__file__).with_name("search_questions.json").read_text())
HOLD_OUT = ("git", "node")
DOCS = [Path("/usr/share/doc"), *(Path(one, "usr/share/doc") for one in [os.environ.get("AYA_BENCH_DOCS")] if one)]
FOLDERS = {
    "manual": ("postgresql-doc-15/html/*.html",),
    "sqlite": ("sqlite3/*.html",),
    "git": ("git-doc/**/*.html",),
    "node": (
        "../../lib/node_modules/npm/docs/content/**/*.md",
        "nodejs/**/*.md",
        "../../lib/node_modules/npm/node_modules/undici/docs/docs/**/*.md",
    ),
}
SKIPPED = re.compile("changelogs|/doc_|keyword_index|sitemap")
MOST = 10  # chunks of a document
CACHE = Path(tempfile.gettempdir()) / "aya-bench-vectors"  # by text, so that a run that was killed goes on
ROWS, DEPTH, K = 50_000, 50, 60
README = 6000  # characters of each, so that those with a history of changes are not most of the chunks
BEFORE = """
WITH asked AS (SELECT q AS every,
                      CASE WHEN strpos(q::text, '!') > 0 THEN q ELSE replace(q::text, ' & ', ' | ')::tsquery END AS some_of
                 FROM websearch_to_tsquery('english', %(query)s) AS q)
SELECT id FROM chunks, asked WHERE terms_before @@ some_of
 ORDER BY terms_before @@ every DESC, ts_rank_cd(terms_before, some_of, 1) DESC, id LIMIT %(depth)s"""


@dataclass(frozen=True)
class Chunk:
    document: str
    title: str
    headings: tuple[str, ...]
    text: str


def documents(name: str) -> Iterator[tuple[Path, bytes]]:
    """The files of a set."""
    if name != "readmes":
        asked = set(QUESTIONS[name].values())
        found = [path for folder in DOCS for pattern in FOLDERS[name] for path in sorted(folder.glob(pattern))]
        pages = {path.stem: path for path in found if not SKIPPED.search(str(path))}
        others = [stem for stem in pages if stem not in asked]
        some = {*list(pages)[::7]} if name == "manual" else {*others[::2]}
        yield from ((path, path.read_bytes()) for stem, path in pages.items() if stem in asked | some)
        return
    for package in sorted(importlib.metadata.distributions(), key=lambda one: one.name.lower()):
        said = dict(package.metadata.json)
        text, kind = str(said.get("description") or ""), str(said.get("description_content_type"))
        if text.strip() and package.name != "aya-lib":
            yield Path(f"{package.name.lower()}.{'md' if 'markdown' in kind else 'txt'}"), text[:README].encode()


def cut(name: str, model: Model) -> list[Chunk]:
    chunker, found = Chunker(model.tokenizer, 256), []
    for path, data in documents(name):
        try:
            reading = read(path, data)
        except Unreadable:
            continue
        found += [Chunk(path.stem, reading.title, one.headings, one.text) for one in chunker.chunks(reading)[:MOST]]
    return found


def embedded(model: Model, texts: Sequence[str], kind: Any = "passage") -> Any:
    """Unit vectors, from the cache where they are."""
    CACHE.mkdir(exist_ok=True)
    files = [CACHE / hashlib.sha256(f"{model.files.fingerprint} {kind} {text}".encode()).hexdigest() for text in texts]
    new = [at for at, file in enumerate(files) if not file.exists()]
    for start in range(0, len(new), 64):
        part = new[start : start + 64]
        for at, vector in zip(part, model.encode([texts[at] for at in part], kind), strict=True):
            files[at].write_bytes(vector.tobytes())
    return np.array([np.frombuffer(file.read_bytes(), dtype=np.float32) for file in files])


def fill(connection: Connection, chunks: Sequence[Chunk], plain: Any, titled: Any) -> None:
    """The chunks in an empty database; what they were before stands in columns of its own."""
    register_vector(connection)
    connection.execute("TRUNCATE documents CASCADE")
    connection.execute("DROP INDEX IF EXISTS idx_chunks_embedding")  # its centroids are those of other rows: exact search here
    connection.execute("ALTER TABLE chunks ADD COLUMN IF NOT EXISTS plain vector(384)")
    connection.execute("ALTER TABLE chunks ADD COLUMN IF NOT EXISTS terms_before tsvector")
    ids = {name: number for number, name in enumerate(dict.fromkeys(one.document for one in chunks), 1)}
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO documents (id, content, source) VALUES (%s, %s, %s)", [(n, "", name) for name, n in ids.items()]
        )
        cursor.executemany(
            "INSERT INTO chunks (id, document_id, chunk_text, metadata, embedding, plain, terms_before)"
            " VALUES (%s, %s, %s, %s, %s, %s, to_tsvector('english', %s))",
            [
                (n, ids[c.document], c.text, Jsonb({"title": c.title, "headings": c.headings}), Vector(t), Vector(p), c.text)
                for n, (c, p, t) in enumerate(zip(chunks, plain, titled, strict=True), 1)
            ],
        )
    connection.execute("SELECT setval(pg_get_serial_sequence('chunks', 'id'), max(id)) FROM chunks")
    connection.execute("VACUUM ANALYZE chunks")


def reciprocal(found: Sequence[str], right: str) -> float:
    """1/rank of the right document among the documents of the chunks."""
    ranked = list(dict.fromkeys(found))
    return 1 / (ranked.index(right) + 1) if right in ranked else 0.0


def by_ranks(lists: Sequence[Sequence[int]]) -> list[int]:
    scores: dict[int, float] = {}
    for ids in lists:
        for rank, number in enumerate(ids, 1):
            scores[number] = scores.get(number, 0) + 1 / (K + rank)
    return sorted(scores, key=lambda number: (-scores[number], number))


def before(connection: Connection, query: str, vector: Any) -> dict[str, list[int]]:
    near = connection.execute("SELECT id FROM chunks ORDER BY plain <=> %s, id LIMIT %s", (Vector(vector), DEPTH)).fetchall()
    said = connection.execute(BEFORE, {"query": query, "depth": DEPTH}).fetchall()
    lists = {"vector before": [int(str(row[0])) for row in near], "text before": [int(str(row[0])) for row in said]}
    return lists | {"hybrid before": by_ranks(list(lists.values()))}


def quality(connection: Connection, model: Model, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a set gives; and what was measured, reciprocal rank by reciprocal rank."""
    chunks = cut(name, model)
    plain = embedded(model, [one.text for one in chunks])
    titled = embedded(model, passages(model.tokenizer, [Passage(one.text, one.title, one.headings) for one in chunks]))
    fill(connection, chunks, plain, titled)
    names = dict(enumerate((one.document for one in chunks), 1))
    asked = QUESTIONS[name]
    searcher = Searcher(connection)
    values: dict[str, list[float]] = {}
    for (query, right), vector in zip(asked.items(), embedded(model, list(asked), "query"), strict=True):
        assert right in names.values(), right
        lists = before(connection, query, vector)
        lists |= {f"{mode} now": [hit.chunk_id for hit in searcher.search(query, vector, mode, DEPTH)] for mode in MODES}
        lists["hybrid by ranks"] = by_ranks([lists["vector now"], lists["text now"]])
        for way, ids in lists.items():
            values.setdefault(way, []).append(reciprocal([names[number] for number in ids], right))
    kind = "hold-out" if name in HOLD_OUT else "development"
    return {"kind": kind, "chunks": len(chunks), "documents": len(set(names.values())), **means(values)}, values


def means(values: dict[str, list[float]]) -> dict[str, Any]:
    found: dict[str, Any] = {"questions": len(values["hybrid now"])}
    found |= {f"MRR {way}": round(float(np.mean(each)), 3) for way, each in sorted(values.items())}
    for way in ("hybrid before", "hybrid by ranks"):
        gain = np.array(values["hybrid now"]) - np.array(values[way])
        low, high = np.quantile(np.random.default_rng(1).choice(gain, (5000, len(gain))).mean(axis=1), (0.025, 0.975))
        found[f"fused gained over {way}"] = f"{gain.mean():.3f} ({low:.3f} to {high:.3f})"
    return found


def latency(connection: Connection, model: Model) -> dict[str, Any]:
    """Milliseconds with ``ROWS`` chunks, and how much of the exact first ten (every chunk with any word ranked) is found."""
    row = connection.execute("SELECT count(*) FROM chunks").fetchone()
    there = int(str(row[0])) if row else 1
    connection.execute(
        "INSERT INTO chunks (document_id, chunk_text, metadata, embedding)"
        " SELECT document_id, chunk_text, metadata, embedding FROM chunks, generate_series(1, %s) LIMIT %s",
        (ROWS // there + 1, ROWS - there),
    )
    connection.execute("VACUUM ANALYZE chunks")
    schema.create_index(connection)
    asked = [query for questions in QUESTIONS.values() for query in questions]
    vectors = embedded(model, asked, "query")
    searcher = Searcher(connection)
    times: dict[str, list[float]] = {f"{mode} {kind}": [] for mode in MODES for kind in ("ms", "ms of the server's CPU")}
    for _ in range(3):
        for query, vector in zip(asked, vectors, strict=True):
            for mode in MODES:
                started, used = time.perf_counter(), on_cpu(connection)
                searcher.search(query, vector, mode, 10)
                times[f"{mode} ms"].append((time.perf_counter() - started) * 1000)
                times[f"{mode} ms of the server's CPU"].append(on_cpu(connection) - used)
    found: dict[str, Any] = {"chunks": ROWS, "processes that waited for a core": round(os.getloadavg()[0], 1)}
    for what, ms in times.items():
        found[what] = f"p50 {statistics.median(ms):.1f}, p95 {np.quantile(ms, 0.95):.1f}"
    return found | {"words: share of the exact first ten texts": exact(searcher, asked)}


def exact(searcher: Searcher, asked: Sequence[str]) -> float:
    """How many of the first ten texts are those of a ranking of every chunk with any of the words; copies count as one."""
    kept, shares = words.CANDIDATES, []
    for query in asked:
        texts = []
        for most in (kept, 10 * ROWS):
            words.CANDIDATES = most
            hits = searcher.search(query, None, "text", 1000)
            texts.append(set(list(dict.fromkeys(hit.content for hit in hits))[:10]))
        words.CANDIDATES = kept
        shares.append(len(texts[0] & texts[1]) / max(1, len(texts[1])))
    return round(statistics.mean(shares), 3)


def measure(connection: Connection, site: Site) -> dict[str, Any]:
    model = load(site.embedding)
    found: dict[str, Any] = {}
    held: dict[str, list[float]] = {}
    for name in QUESTIONS:
        found[name], values = quality(connection, model, name)
        print(name, json.dumps(found[name]), flush=True)
        if name in HOLD_OUT:
            held = {way: held.get(way, []) + each for way, each in values.items()}
    found["hold-out together"] = means(held)
    return found | {"latency": latency(connection, model)}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as scratch:
        Path(scratch).chmod(0o755)
        os.environ |= {"AYA_PARAMETERS": str(model_site(Path(scratch))), "AYA_RUNS": f"{scratch}/runs"}
        site = new("bench", Path(scratch) / "lab", like="model")
        try:
            labs.up(site, embedding=False)
            with open_nodes(site)["ALPHA"].session(write=True, deadline_s=3600) as connection:
                found = measure(connection, site)
        finally:
            labs.delete(site)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
