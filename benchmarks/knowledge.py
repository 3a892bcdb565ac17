"""Ingest and search beside their floors: the encoder, a bare binary COPY, the bare SQL. Ratios, measured in one run.

Documents are pages of PostgreSQL's manual (Debian's package postgresql-doc-15), in a lab of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from aya_lib import lab as labs
from aya_lib.embedding.client import Client
from aya_lib.embedding.files import open_files
from aya_lib.embedding.model import Tokenizer
from aya_lib.knowledge import evaluate, words
from aya_lib.knowledge.chunking import Chunk, Chunker
from aya_lib.knowledge.evaluation import Evaluation
from aya_lib.knowledge.ingest import ingest
from aya_lib.knowledge.reader import Reader
from aya_lib.knowledge.reading import read
from aya_lib.knowledge.search import DEPTH, MODES, WORDS, Mode, Searcher, composed
from aya_lib.knowledge.store import Prepared, write
from aya_lib.lab.new import new
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.node.sql import Connection
from aya_lib.runbook.refresh import model_site
from aya_lib.site import Site

RESULTS = Path(__file__).with_suffix(".json")
HTML = Path("/usr/share/doc/postgresql-doc-15/html")
ROWS, DIMENSION, ROUNDS = 4000, 384, 5


def encoder_seconds(url: str) -> float:
    """Seconds that the service has spent in the network, as it counts them itself."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", "/metrics")
    for line in connection.getresponse().read().decode().splitlines():
        if line.startswith("aya_embedding_encode_seconds_sum"):
            return float(line.split()[1])
    raise ValueError("no aya_embedding_encode_seconds_sum")


def loading(nodes: Nodes, folder: Path) -> dict[str, Any]:
    for path in sorted(HTML.glob("*.html"))[::8]:
        shutil.copy(path, folder)
    url = nodes["ALPHA"].embedding_url or ""
    before = encoder_seconds(url)
    report = ingest(nodes, [folder], category="manual")
    spent = encoder_seconds(url) - before
    return {
        "files": report.tally.added,
        "chunks": report.tally.chunks,
        "seconds": round(report.seconds, 1),
        "share_of_the_time_in_the_network": round(spent / report.seconds, 3),
        "share_of_the_time_waiting_for_the_service": round(report.encoder_s / report.seconds, 3),
    }


def documents() -> tuple[list[Prepared], Any]:
    """Documents of twenty chunks each, with unit vectors."""
    rng, words = random.Random(4), [path.stem for path in sorted(HTML.glob("*.html"))]
    vectors = np.random.default_rng(4).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for number in range(ROWS // 20):
        chunks = tuple(Chunk(index, " ".join(rng.choices(words, k=60)), 200, ("Part", "Chapter")) for index in range(20))
        found.append(Prepared(f"bench:{number}", "bench", "0", "text", {"title": "t"}, "bench", chunks))
    return found, vectors


def bare(node: Node, made: list[Prepared], vectors: Any) -> float:
    """One binary COPY of the same rows into the same table, all values at hand."""
    with node.session(write=True, deadline_s=120) as connection:
        register_vector(connection)
        row = connection.execute("INSERT INTO documents (content, source_uri) VALUES ('bare', 'bare') RETURNING id").fetchone()
        assert row
        flat = [(row[0], c.text, Vector(v), c.index) for (c, v) in zip([c for d in made for c in d.chunks], vectors, strict=True)]
        rows = [(*one, Jsonb({"title": "t", "headings": ["Part", "Chapter"], "tokens": 200})) for one in flat]
        columns = "document_id, chunk_text, embedding, chunk_index, metadata"
        started = time.perf_counter()
        statement = f"COPY chunks ({columns}) FROM STDIN (FORMAT binary)"
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(["int4", "text", "vector", "int4", "jsonb"])
            for one in rows:
                copy.write_row(one)
        spent = time.perf_counter() - started
        connection.execute("DELETE FROM documents WHERE source_uri = 'bare'")
        connection.execute("VACUUM chunks")
    return spent


def ours(node: Node, made: list[Prepared], vectors: Any) -> float:
    with node.session(write=True, deadline_s=120) as connection:
        started = time.perf_counter()
        with connection.transaction():
            write(connection, made, vectors)
        spent = time.perf_counter() - started
        connection.execute("DELETE FROM documents WHERE source_uri LIKE 'bench:%'")
        connection.execute("VACUUM chunks")
    return spent


def on_cpu(connection: Connection) -> float:
    """Milliseconds that the session's server process has run, on Linux: what it waited for a core is not in it."""
    return int(Path(f"/proc/{connection.info.backend_pid}/schedstat").read_text().split()[0]) / 1e6


def writing(node: Node) -> dict[str, Any]:
    made, vectors = documents()
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(ROUNDS):
        times["bare"].append(bare(node, made, vectors))
        times["ours"].append(ours(node, made, vectors))
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        "rows": ROWS,
        "documents": len(made),
        "ours_s": round(medians["ours"], 3),
        "bare_copy_s": round(medians["bare"], 3),
        "of_a_bare_binary_copy": round(medians["bare"] / medians["ours"], 2),
    }


def reading(site: Site) -> dict[str, Any]:
    """The processor's seconds for the same pages, read and cut here and in a process of its own, its start among them."""
    files, tokens = open_files(site.embedding), site.knowledge.chunk_tokens
    pages = [(path, path.read_bytes()) for path in sorted(HTML.glob("*.html"))[::8]]
    chunker, reader = Chunker(Tokenizer(files), tokens), Reader(files, tokens)
    chunker.chunks(read(*pages[0]))  # what is loaded only once
    used = [sum(os.times()[:4])]
    for path, data in pages:
        chunker.chunks(read(path, data))
    used.append(sum(os.times()[:4]))
    for path, data in pages:
        reader.document(path, data)
    reader.close()
    here, apart = np.diff([*used, sum(os.times()[:4])]).tolist()
    return {"files": len(pages), "here_s": round(here, 2), "apart_s": round(apart, 2), "apart_of_here": round(apart / here, 2)}


def chunks(site: Site) -> list[tuple[str, str, Sequence[str]]]:
    chunker = Chunker(Tokenizer(open_files(site.embedding)), site.knowledge.chunk_tokens)
    found = [read(path, path.read_bytes()) for path in sorted(HTML.glob("*.html"))[::8]]
    return [(chunk.text, page.title, chunk.headings) for page in found for chunk in chunker.chunks(page)]


def making_words(node: Node, texts: Sequence[tuple[str, str, Sequence[str]]]) -> dict[str, Any]:
    """The server's milliseconds for the words of chunks (text, title, headings), and for the bare lexemes of their text alone."""
    with node.session(write=True, deadline_s=600) as connection:
        connection.execute("CREATE TEMP TABLE made (chunk_text text, metadata jsonb)")
        rows = [(text, Jsonb({"title": title, "headings": list(headings)})) for text, title, headings in texts]
        connection.cursor().executemany("INSERT INTO made VALUES (%s, %s)", rows)
        ms = {"words": "aya_chunk_terms(chunk_text, metadata)", "bare": "to_tsvector('english', chunk_text)"}
        found = {}
        for name, made in ms.items():
            query = f"SELECT sum(length({made})) FROM made".encode()
            spent = []
            for _ in range(ROUNDS):
                before = on_cpu(connection)
                connection.execute(query)
                spent.append(on_cpu(connection) - before)
            found[f"{name}_ms"] = round(min(spent), 1)
    return {"chunks": len(texts), **found, "words_of_bare": round(found["words_ms"] / found["bare_ms"], 2)}


def searching(nodes: Nodes) -> dict[str, Any]:
    client = Client(nodes["ALPHA"])
    asked = [
        "how is a standby promoted",
        "vacuum and wraparound",
        "index only scan",
        "role privileges",
        "wal archiving",
        "lock timeout",
    ]
    vectors = client.vectors(asked, "query")
    with nodes["ALPHA"].session(deadline_s=300) as connection:
        searcher = Searcher(connection)
        return {mode: _one_mode(searcher, mode, asked, vectors) for mode in MODES}


def _one_mode(searcher: Searcher, mode: Mode, asked: list[str], vectors: Any) -> dict[str, float]:
    query = composed(mode, ())
    times: dict[str, list[float]] = {"search": [], "sql": []}
    for _ in range(60):
        for text, vector in zip(asked, vectors, strict=True):
            depth = 10 if mode != "hybrid" else 50
            candidates = max(4 * depth, searcher.tuning.ef_search)
            values = {
                "vector": Vector(vector),
                "limit": 10,
                "depth": depth,
                "candidates": candidates,
                "scaled": DEPTH,
                "words": WORDS,
            }
            parsed = words.parse(text)
            started = time.perf_counter()
            if mode != "vector":
                values |= words.values(searcher.connection, parsed, words.lexemes(searcher.connection, parsed))
            searcher.connection.execute(query, values).fetchall()
            middle = time.perf_counter()
            searcher.search(text, vector, mode, 10)
            times["sql"].append(middle - started)
            times["search"].append(time.perf_counter() - middle)
    found = {name: statistics.median(each) * 1000 for name, each in times.items()}
    return {
        "sql_ms": round(found["sql"], 3),
        "search_ms": round(found["search"], 3),
        "search_adds": round(found["search"] / found["sql"] - 1, 3),
    }


def quality(nodes: Nodes) -> dict[str, str]:
    found = evaluate.measure(nodes, 300)
    assert isinstance(found, Evaluation), found
    result = {f"{mode} recall@10": str(found.recall(mode, 10)) for mode in MODES}
    return result | {f"{mode} MRR": str(found.mrr(mode)) for mode in MODES} | {"questions": str(len(found.asked))}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as scratch:
        Path(scratch).chmod(0o755)
        os.environ |= {"AYA_PARAMETERS": str(model_site(Path(scratch))), "AYA_RUNS": f"{scratch}/runs"}
        site = new("bench", Path(scratch) / "lab", like="model")
        folder = Path(scratch) / "manual"
        folder.mkdir()
        try:
            labs.up(site)
            nodes = open_nodes(site)
            found: dict[str, Any] = {"search": {}, "quality": {}} | {"ingest": loading(nodes, folder)}
            print(json.dumps(found), flush=True)
            found |= {"search": searching(nodes), "quality": quality(nodes)}
            found["writing"] = writing(nodes["ALPHA"])
            found |= {"reading": reading(site), "making_words": making_words(nodes["ALPHA"], chunks(site))}
        finally:
            labs.delete(site)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
