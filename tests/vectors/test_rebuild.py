"""Rebuilding the index of a real cluster while searches go on: none fails, none misses an index, recall never falls."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from rebuild_support import QUERIES, execute, fill, lists, live, names, searching, vectors

from aya_lib.errors import AyaError, ChangeFailed, Interrupted
from aya_lib.knowledge import search
from aya_lib.knowledge.search import Filters, Searcher
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.plan.change import Change, apply
from aya_lib.site import Site
from aya_lib.vectors.catalog import Built, Live
from aya_lib.vectors.index import Index, hnsw, ivfflat
from aya_lib.vectors.rebuild import actions, hold
from aya_lib.vectors.rebuild.actions import AlreadyDone, Proof
from aya_lib.vectors.rebuild.judge import checks
from aya_lib.vectors.rebuild.look import live_recall
from aya_lib.vectors.rebuild.plan import plan
from aya_lib.vectors.rebuild.settings import noted

FRESH_S = 0.5
PROOF = Proof(lambda node: live_recall(node, 10, 20), 0.9)

CHILD = """
import sys, time
from aya_lib.plan.change import apply
from aya_lib.knowledge import search
from aya_lib.node.node import open_nodes
from aya_lib.site import load_site
from aya_lib.vectors.index import Index
from aya_lib.vectors.catalog import look
from aya_lib.vectors.rebuild.actions import Proof
from aya_lib.vectors.rebuild.plan import plan
site, family, options, value, search.FRESH_S = sys.argv[1], sys.argv[2], eval(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
nodes = open_nodes(load_site(site))
proof = Proof(lambda node: print("proving", flush=True) or time.sleep(60), 0.9)
steps = plan(nodes["ALPHA"], look(nodes["ALPHA"]), Index(family, options), value, proof=proof)
apply(steps, nodes, lambda step, state, detail: None)
"""


@pytest.fixture(scope="module")
def given() -> Any:
    return vectors()


@pytest.fixture(scope="module")
def nodes(bare: Site, given: Any) -> Nodes:
    found = open_nodes(bare)
    fill(found["ALPHA"], given[:-QUERIES])
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searchers read their settings more often, and those who rebuild wait accordingly shorter."""
    monkeypatch.setattr(search, "FRESH_S", FRESH_S)


@pytest.fixture
def alpha(nodes: Nodes) -> Node:
    """20 lists, of which searches look into 3."""
    lists(nodes["ALPHA"], 20, '{"probes": 3}')
    return nodes["ALPHA"]


def rebuild(nodes: Nodes, wanted: Index, value: int, proof: Proof | None = PROOF, **more: Any) -> list[str]:
    """Look, check, plan, apply; gives what was reported."""
    node, said = nodes["ALPHA"], []

    def report(step: Change, state: str, detail: str) -> None:
        said.append(f"{state}: {step.title} {detail}")

    there = live(node)
    assert not [one for one in checks(there, wanted, value) if one.status in ("failed", "unknown")]
    apply(plan(node, there, wanted, value, proof=proof, **{"progress": lambda *_: None, **more}), nodes, report)
    return said


def state(node: Node) -> tuple[object, ...]:
    """What a rebuild that failed must leave as it found it."""
    there = live(node)
    return [(one.name, str(one.index()), one.valid) for one in there.indexes], there.stored, there.roles


def test_searches_keep_their_recall_while_lists_go_from_20_to_200_and_back(nodes: Nodes, given: Any) -> None:
    """Two probes of 20 lists are enough (recall 0.96 and more), of 200 not (0.7): searchers must know before the swap."""
    alpha, role = nodes["ALPHA"], nodes["ALPHA"].site.database.application_role
    lists(alpha, 20, '{"probes": 2, "foreign": [1]}')
    execute(alpha, f"ALTER ROLE {role} SET ivfflat.probes = 2")
    try:
        with searching(given, (alpha, role), (alpha, None), (nodes["BETA"], role)) as searches:
            rebuild(nodes, ivfflat(200), 16)
            many = live(alpha)
            rebuild(nodes, ivfflat(20), 2)
        for one in searches:
            assert (one.error, one.plans) == ("", [])
            assert len(one.found) > 100
            assert one.lowest() > 0.8, (one.node.name, one.role)
        assert many.current
        assert (str(many.current.index()), [one.value for one in many.roles]) == ("ivfflat lists=200", [16])
        assert many.stored
        assert (many.stored["probes"], many.stored["foreign"]) == (16, [1])
        assert (many.stored["built"]["index"], many.stored["built"]["rows"]) == ("ivfflat lists=200", 5000)
        assert many.stored["built"]["recall"] > 0.95
        assert [one.value for one in live(alpha).roles] == [2]
    finally:
        execute(alpha, f"ALTER ROLE {role} RESET ivfflat.probes")


def test_searches_go_on_from_family_to_family_in_the_form_that_each_index_takes(nodes: Nodes, alpha: Node, given: Any) -> None:
    role = alpha.site.database.application_role
    every = [(hnsw(8, 40), 100), (hnsw(8, 40, "halfvec"), 100), (hnsw(8, 40, "bit"), 120), (ivfflat(20), 3)]
    with searching(given, (alpha, role), (alpha, None), (nodes["BETA"], role)) as searches:
        for wanted, value in every:
            rebuild(nodes, wanted, value)
            there = live(alpha)
            assert names(there) == [("idx_chunks_embedding", str(wanted))]
            assert (there.value(wanted), noted(there)) == (value, None)
            with alpha.session(role=role) as connection:
                connection.execute("SET enable_seqscan = off")
                rare = Searcher(connection).search("x", given[-1], "vector", 40, Filters(category="rare"))
                assert len(rare) == 40
                assert Searcher(connection).search("x", given[-1], "hybrid", 10)[0].vector_rank == 1
    for one in searches:
        assert (one.error, one.plans) == ("", []), one.node.name
        assert one.lowest() > 0.9, one.node.name
        assert {kind for _, _, kind in one.found} == {"vector", "halfvec", "bit"}


@pytest.mark.parametrize(("wanted", "value"), [(ivfflat(60), 9), (ivfflat(20, "halfvec"), 2)], ids=["options", "family"])
def test_a_proof_that_fails_brings_the_old_index_back_with_its_settings(nodes: Nodes, wanted: Index, value: int) -> None:
    alpha = nodes["ALPHA"]
    lists(alpha, 20, '{"probes": 3, "built": {"rows": 1}}')
    before, old = state(alpha), live(alpha)
    with pytest.raises(ChangeFailed, match=r"recall of .* is 0\.300, wanted is at least 0\.9.*was undone"):
        rebuild(nodes, wanted, value, Proof(lambda node: 0.3, 0.9))
    assert state(alpha) == before
    assert old.current
    with alpha.session() as connection:
        connection.execute("SET enable_seqscan = off")
        assert Searcher(connection).tuning.probes == 3


def child(node: Node, wanted: Index, value: int) -> subprocess.Popen[str]:
    arguments = [node.site.name, wanted.family, repr(wanted.options), str(value), str(FRESH_S)]
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True)


def until_phase(node: Node, words: str) -> None:
    wait.until(
        lambda: [one.phase for one in live(node).builds],
        lambda phases: any(words in phase for phase in phases),
        node=node.name,
        what=words,
        deadline_s=60,
        poll_s=0.02,
    )


def kill(process: subprocess.Popen[str], node: Node) -> Live:
    """SIGKILL, and what is there when the server has seen that the client is gone."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return wait.until(
        lambda: live(node), lambda seen: not seen.builds, node=node.name, what="no build runs", deadline_s=60, poll_s=0.1
    )


def test_killed_in_the_middle_of_a_build_another_run_cleans_up_and_finishes(nodes: Nodes, alpha: Node) -> None:
    wanted = hnsw(24, 400)
    process = child(alpha, wanted, 70)
    until_phase(alpha, "building index")
    left = kill(process, alpha)
    assert [one.name for one in left.leftovers] == ["idx_chunks_embedding_new"]
    assert noted(left)
    assert left.value(ivfflat(20)) == 3
    rebuild(nodes, hnsw(8, 40), 200)  # another one, that is built faster
    there = live(alpha)
    assert names(there) == [("idx_chunks_embedding", "hnsw m=8 ef_construction=40")]
    assert (there.value(hnsw(8, 40)), noted(there), there.leftovers) == (200, None, ())


def test_killed_at_the_gate_the_old_index_stays_and_another_run_finishes(nodes: Nodes) -> None:
    """The lock outlives its client until the build has ended: else the new index would come with too few probes."""
    alpha = nodes["ALPHA"]
    lists(alpha, 20, '{"probes": 1}')
    old = live(alpha).current
    process = child(alpha, ivfflat(100), 8)
    until_phase(alpha, "before validation")
    left = kill(process, alpha)
    assert old
    assert left.current
    assert left.current.filenode == old.filenode
    assert [one.name for one in left.leftovers] == ["idx_chunks_embedding_ccnew"]
    said = rebuild(nodes, ivfflat(100), 8)
    there = live(alpha)
    assert names(there) == [("idx_chunks_embedding", "ivfflat lists=100")]
    assert (there.value(ivfflat(100)), noted(there)) == (8, None)
    assert there.current
    assert there.current.filenode != old.filenode
    assert sum(line.startswith("done") for line in said) == 6


def test_killed_between_the_swap_and_the_drop_another_run_only_proves_and_drops(nodes: Nodes, alpha: Node) -> None:
    wanted = ivfflat(20, "halfvec")
    process = child(alpha, wanted, 2)
    assert process.stdout
    assert process.stdout.readline() == "proving\n"
    left = kill(process, alpha)
    assert {one.name for one in left.indexes} == {"idx_chunks_embedding", "idx_chunks_embedding_old"}
    steps = plan(alpha, left, wanted, 2, proof=PROOF)
    titles = [step.title for step in steps.changes if not isinstance(step.action, AlreadyDone)]
    assert titles == [
        "Prove that its recall is at least 0.9",
        "Drop the old index, idx_chunks_embedding_old",
        "Take away the note",
    ]
    with pytest.raises(ChangeFailed, match="was undone"):
        rebuild(nodes, wanted, 2, Proof(lambda node: 0.0, 0.9))
    back = live(alpha)
    assert names(back) == [("idx_chunks_embedding", "ivfflat lists=20")]
    assert back.stored == {"probes": 3}


def test_an_old_index_that_somebody_still_scans_is_not_taken_from_him(
    nodes: Nodes, alpha: Node, given: Any, monkeypatch: Any
) -> None:
    before = state(alpha)
    monkeypatch.setattr(actions, "QUIET_S", 3.0)
    stop = threading.Event()

    def search_by_its_own_statement() -> None:
        query = "SELECT id FROM chunks ORDER BY embedding <=> %s::vector LIMIT 5"
        with alpha.session(deadline_s=60) as connection:
            connection.execute("SET enable_seqscan = off")
            while not stop.wait(0.05):
                connection.execute(query, (json.dumps(given[0].tolist()),))

    thread = threading.Thread(target=search_by_its_own_statement)
    thread.start()
    try:
        with pytest.raises(ChangeFailed, match=r"idx_chunks_embedding_old is still scanned after 3 s") as failed:
            rebuild(nodes, ivfflat(20, "halfvec"), 3, None)
    finally:
        stop.set()
        thread.join()
    assert "let that application search" in failed.value.hint
    assert state(alpha) == before


def test_a_lock_that_does_not_come_free_is_named_and_nothing_is_lost(nodes: Nodes, alpha: Node, monkeypatch: Any) -> None:
    """Where pgvector is loaded, ALTER INDEX asks for an exclusive lock, and a reader stands in its way."""
    before = state(alpha)
    monkeypatch.setattr(hold, "LOCK_S", 1.0)
    execute(alpha, "ALTER DATABASE aya_rag SET session_preload_libraries = 'vector'")
    try:
        with alpha.session(deadline_s=60) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM chunks")
            pid = reader.info.backend_pid
            with pytest.raises(ChangeFailed, match=rf"idx_chunks_embedding was locked for 1 s by PID {pid} \(aya bare-rebuild"):
                rebuild(nodes, ivfflat(60), 9)
            reader.execute("ROLLBACK")
        assert state(alpha) == before
        rebuild(nodes, ivfflat(60), 9)
    finally:
        execute(alpha, "ALTER DATABASE aya_rag RESET session_preload_libraries")


def test_a_build_that_breaks_off_after_the_swap_counts_as_done(nodes: Nodes, monkeypatch: Any) -> None:
    """A reader's open transaction keeps the old index from being removed: the new one is live all the same."""
    alpha = nodes["ALPHA"]
    lists(alpha, 20, '{"probes": 1}')
    monkeypatch.setattr(hold, "CLEAN_S", 0.5)
    with alpha.session(deadline_s=60) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM chunks")
        rebuild(nodes, ivfflat(100), 8, None, deadline_s=4)
    there = live(alpha)
    assert there.current
    assert (str(there.current.index()), there.value(ivfflat(100)), noted(there)) == ("ivfflat lists=100", 8, None)
    assert [one.name for one in there.leftovers] == ["idx_chunks_embedding_ccold"]
    assert there.built == Built(5000, None, 0, 8)  # recorded, though nothing was proven
    rebuild(nodes, ivfflat(100), 8)
    assert [one.name for one in live(alpha).indexes] == ["idx_chunks_embedding"]


def test_ctrl_c_ends_the_build_on_the_server_too(nodes: Nodes, alpha: Node) -> None:

    def interrupt(phase: str, done: int, total: int) -> None:
        if "building" in phase:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"interrupted in 'Build hnsw .* was undone; 'Note what is rebuilt.* was undone"):
        rebuild(nodes, hnsw(24, 400), 70, progress=interrupt)
    left = live(alpha)
    assert (left.builds, left.leftovers) == ((), ())


def test_what_an_interrupted_build_left_is_found_and_removed(nodes: Nodes, alpha: Node) -> None:
    what = "ON chunks USING hnsw ((embedding::halfvec(384)) halfvec_cosine_ops) WITH (ef_construction = 400)"
    with pytest.raises(AyaError):
        execute(alpha, "SET statement_timeout = '150ms'", f"CREATE INDEX CONCURRENTLY mine {what}")
    assert [one.name for one in live(alpha).leftovers] == ["mine"]
    said = rebuild(nodes, ivfflat(20), 4)
    assert [one.name for one in live(alpha).indexes] == ["idx_chunks_embedding"]
    assert said[1] == "done: Remove mine, left invalid by a build that broke off "
