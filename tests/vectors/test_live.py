"""What the live index is, on a real cluster; searchers that follow what is decided; and the parsers on recorded output."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from rebuild_support import QUERIES, execute, fill, lists, live, vectors

from aya_lib.cluster.machine import parse_df, parse_meminfo, parse_vm_stat
from aya_lib.errors import CommandFailed, UsageError
from aya_lib.knowledge import search
from aya_lib.knowledge.search import Searcher
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.unseen import Down
from aya_lib.site import Site
from aya_lib.vectors.catalog import Live, RoleSetting, look
from aya_lib.vectors.index import hnsw, ivfflat
from aya_lib.vectors.rebuild.settings import Note, noted

LINUX_DF = """Filesystem     1024-blocks     Used Available Capacity Mounted on
/dev/vda         263928332 24930728  81767444      24% /
"""
MAC_DF = """Filesystem   1024-blocks      Used Available Capacity  Mounted on
/dev/disk3s5   971350180 512345678 431234567    55%    /System/Volumes/Data
"""
SPACED_DF = """Filesystem 1024-blocks Used Available Capacity Mounted on
//backup server/my disk 1000 400 600 40% /Volumes/my disk
"""
MEMINFO = """MemTotal:       24683820 kB
MemFree:        22881932 kB
MemAvailable:   23986128 kB
Buffers:           64712 kB
"""
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               28143.
Pages active:                            731562.
Pages inactive:                          712019.
Pages speculative:                        18522.
Pages throttled:                              0.
Pages wired down:                        195814.
Pages purgeable:                           9310.
"Translation faults":                 913746527.
"""


@pytest.fixture(scope="module")
def alpha(bare: Site) -> Node:
    node = open_nodes(bare)["ALPHA"]
    fill(node, vectors(600)[:-QUERIES])
    return node


@pytest.fixture
def node(alpha: Node) -> Node:
    lists(alpha, 9, '{"foreign": 1}')
    return alpha


def test_the_live_index_is_seen_with_all_that_a_rebuild_needs(node: Node) -> None:
    found = live(node)
    assert (found.schema, found.key, found.dimension, found.rows) == ("public", "id", 384, 600)
    assert found.current
    assert found.current.index() == ivfflat(9)
    assert (found.current.name, found.current.metric and found.current.metric.name) == ("idx_chunks_embedding", "cosine")
    assert found.current.bytes > 600 * 384 * 4
    assert isinstance(found.free_bytes, int)
    assert isinstance(found.memory_bytes, int)
    assert found.free_bytes > 10**8
    assert found.memory_bytes > 10**8
    assert (found.maintenance_work_mem, found.workers, found.in_recovery) == (64 << 20, 2, False)
    assert (found.stored, found.settings_table, found.problem) == ({"foreign": 1}, True, "")
    assert found.value(ivfflat(9)) == 3  # nobody chose: the square root
    standby = look(open_nodes(node.site)["BETA"])
    assert isinstance(standby, Live)
    assert (standby.in_recovery, standby.rows) == (True, 600)


def test_indexes_of_an_expression_are_seen_with_the_type_they_hold(node: Node) -> None:
    execute(
        node,
        "CREATE INDEX half ON chunks USING hnsw ((embedding::halfvec(384)) halfvec_cosine_ops) WITH (m = 8)",
        "CREATE INDEX bits ON chunks USING hnsw ((binary_quantize(embedding)::bit(384)) bit_hamming_ops)",
        "CREATE INDEX far ON chunks USING ivfflat (embedding vector_l2_ops) WITH (lists = 3)",
        "CREATE INDEX few ON chunks USING ivfflat (embedding vector_cosine_ops) WITH (lists = 2) WHERE id < 99",
    )
    try:
        found = live(node)
        seen = {one.name: (one.index(), one.dimension, one.partial) for one in found.indexes}
        assert seen == {
            "bits": (hnsw(kind="bit"), 384, False),
            "far": (ivfflat(3), 384, False),
            "few": (ivfflat(2), 384, True),
            "half": (hnsw(8, kind="halfvec"), 384, False),
            "idx_chunks_embedding": (ivfflat(9), 384, False),
        }
        assert found.current
        assert found.current.name == "idx_chunks_embedding"
        assert found.as_table().metric.name == "cosine"  # of the live one, whatever else there is
    finally:
        execute(node, "DROP INDEX half, bits, far, few")


@pytest.mark.parametrize(
    ("table", "column", "problem"),
    [
        ("nothing", "embedding", "there is no table nothing"),
        ("chunks", "vector", "chunks has no column vector"),
        ("public.chunks", "chunk_text", "public.chunks.chunk_text is of type text, not vector"),
    ],
)
def test_a_table_without_such_vectors_is_a_problem_that_is_said(node: Node, table: str, column: str, problem: str) -> None:
    found = look(node, table, column)
    assert isinstance(found, Live)
    assert found.problem == problem
    with pytest.raises(UsageError, match="allowed is a name"):
        look(node, "chunks; DROP TABLE chunks")


def test_a_server_that_is_down_is_a_value(node: Node) -> None:
    elsewhere = node.config.postgresql.model_copy(update={"port": 1})
    assert isinstance(look(Node("ALPHA", node.config.model_copy(update={"postgresql": elsewhere}), node.site)), Down)


def test_settings_of_roles_and_databases_are_seen_and_the_narrowest_one_decides(node: Node) -> None:
    role = node.site.database.application_role
    try:
        execute(node, "ALTER DATABASE aya_rag SET ivfflat.probes = 4")
        execute(node, "ALTER DATABASE postgres SET ivfflat.probes = 9")
        assert live(node).roles == (RoleSetting("aya_rag", None, "ivfflat.probes", 4),)
        assert live(node).value(ivfflat(9)) == 4
        execute(node, f"ALTER ROLE {role} SET ivfflat.probes = 5")
        assert live(node).value(ivfflat(9)) == 5
        execute(node, f"ALTER ROLE {role} IN DATABASE aya_rag SET ivfflat.probes = 6")
        assert live(node).value(ivfflat(9)) == 6
        with node.session(role=role) as connection:
            assert connection.execute("SHOW ivfflat.probes").fetchone() == ("6",)  # as PostgreSQL itself decides
    finally:
        for whose in ("DATABASE aya_rag", "DATABASE postgres", f"ROLE {role}", f"ROLE {role} IN DATABASE aya_rag"):
            execute(node, f"ALTER {whose} RESET ivfflat.probes")


def probes(searcher: Searcher, vector: Any) -> str:
    """What the session has when the searcher has just searched."""
    searcher.search("", vector, "vector", 3)
    row = searcher.connection.execute("SHOW ivfflat.probes").fetchone()
    return str(row[0]) if row else ""


def test_a_searcher_follows_what_is_decided_while_it_lives(node: Node, monkeypatch: Any) -> None:
    """Role or database before the stored choice before the square root; a session that began earlier follows too."""
    monkeypatch.setattr(search, "FRESH_S", 0.0)
    vector = vectors(600)[-1]
    with node.session(role=node.site.database.application_role, deadline_s=30) as connection:
        searcher = Searcher(connection)
        assert probes(searcher, vector) == "3"
        execute(node, "UPDATE aya_settings SET value = value || '{\"probes\": 7}' WHERE key = 'search'")
        assert probes(searcher, vector) == "7"
        execute(node, "ALTER DATABASE aya_rag SET ivfflat.probes = 5")
        try:
            assert probes(searcher, vector) == "5"
            assert probes(Searcher(connection), vector) == "5"
            connection.execute("SET ivfflat.probes = 2")
            assert probes(searcher, vector) == "2"  # the caller's own word
            assert probes(Searcher(connection), vector) == "2"
            connection.execute("RESET ivfflat.probes")
        finally:
            execute(node, "ALTER DATABASE aya_rag RESET ivfflat.probes")
        assert probes(searcher, vector) == "7"
        execute(node, "UPDATE aya_settings SET value = value - 'probes' WHERE key = 'search'")
        lists(node, 100)
        assert probes(searcher, vector) == "10"


def test_a_searcher_reads_its_settings_no_more_often_than_it_must(node: Node) -> None:
    with node.session() as connection:
        searcher = Searcher(connection)
        before = searcher.tuning
        for _ in range(3):
            searcher.search("", vectors(600)[-1], "vector", 3)
        assert searcher.tuning is before


def test_a_note_of_a_rebuild_survives_its_way_through_the_settings() -> None:
    note = Note(hnsw(kind="bit"), ivfflat(9), "a", 7, {"probes": 3}, (RoleSetting(None, "bob", "ivfflat.probes", 3),))

    def read(stored: dict[str, Any]) -> Note | None:
        return noted(Live("ALPHA", "chunks", "embedding", stored={"rebuilding": json.loads(json.dumps(stored))}))

    assert read(note.json()) == note
    assert read(replace(note, was=None).json()) == replace(note, was=None)


def test_free_disk_and_memory_are_read_from_what_linux_and_macos_print() -> None:
    assert parse_df("ALPHA", LINUX_DF) == 81_767_444 * 1024
    assert parse_df("ALPHA", MAC_DF) == 431_234_567 * 1024
    assert parse_df("ALPHA", SPACED_DF) == 600 * 1024
    assert parse_meminfo("ALPHA", MEMINFO) == 23_986_128 * 1024
    assert parse_vm_stat("ALPHA", VM_STAT) == 16384 * (28_143 + 712_019 + 18_522 + 9_310)
    for parse in (parse_df, parse_meminfo, parse_vm_stat):
        with pytest.raises(CommandFailed, match="in its output"):
            parse("ALPHA", "nothing of the kind\n")
