"""Restores from a real backup into a real pair: tables beside the live ones, and last the whole cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pairs import reconfigured
from restores import Fails, answers, asked, ended_here, not_seen, reachable, received, sql, streams_back, walked
from tests_support import make, passed, step, up

from aya_lib import lab as labs
from aya_lib.air.setup.actions import Prepare
from aya_lib.backup import replay
from aya_lib.cluster import server, state
from aya_lib.cluster.server import Cluster
from aya_lib.errors import AyaError, RequirementFailed
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.node.sql import value
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.operations.restore_backup.tables import judge, look, plan
from aya_lib.operations.restore_backup.tables.look import Difference, Tables
from aya_lib.operations.restore_backup.whole import judge as whole_judge
from aya_lib.operations.restore_backup.whole import look as whole_look
from aya_lib.operations.restore_backup.whole import plan as whole_plan
from aya_lib.operations.restore_backup.whole.look import Whole
from aya_lib.plan.change import apply
from aya_lib.site import Site


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Site]:
    made = make(place, "brought-back")
    made = reconfigured(made, lambda config: [node.pop("embedding", None) for node in config["nodes"].values()])
    try:
        up(made)
        for node in open_nodes(made).pair:
            sql(node, "ALTER SYSTEM SET fsync = off")  # durability is not the subject here
        Prepare("primary").run(open_nodes(made)["ALPHA"])
        passed(step("backup", site=made.name))
        yield made
    finally:
        labs.delete(made)


@pytest.fixture
def nodes(site: Site) -> Nodes:
    return open_nodes(site)


BOTH = ["documents", "chunks"]
ROWS = "SELECT md5(d::text) FROM documents d ORDER BY id"
CHUNKS = "SELECT md5(c::text) FROM chunks c ORDER BY id"


def copied(nodes: Nodes) -> Tables:
    found = look.look(nodes, "", BOTH)
    assert [check.status for check in judge.preconditions(found)] == ["passed"] * len(judge.preconditions(found))
    walked(plan.prepare(found), nodes)
    return look.look(nodes, "", BOTH, found)


def test_deleted_rows_come_back_and_the_laptops_log_has_them(nodes: Nodes) -> None:
    alpha = nodes["ALPHA"]
    documents, chunks = asked(alpha, ROWS), asked(alpha, CHUNKS)
    sql(alpha, "DELETE FROM documents WHERE id <= 2", "UPDATE documents SET category = 'later' WHERE id = 3")
    sql(alpha, "INSERT INTO documents (content) VALUES ('written since')")
    found = copied(nodes)
    by_name = {one.definition.name: one.difference or Difference() for one in found.copied}
    assert [*by_name] == ["public.documents", "public.chunks"]
    of_documents = by_name["public.documents"]
    assert of_documents == Difference(2, 1, 1, {**of_documents.first, "missing": ("1", "2"), "changed": ("3",)})
    assert by_name["public.chunks"].missing > 0
    assert not plan.put(found, merge=False)
    with alpha.session() as connection:
        noted = int(str(value(connection, "SELECT count(*) FROM aya_sync.changes")))
    walked(plan.put(found, merge=True), nodes)
    again = look.look(nodes, "", BOTH, found)
    assert {check.status for check in judge.merged(again, merge=True)} == {"passed"}
    assert not plan.put(again, merge=True)
    now = asked(alpha, ROWS)
    assert set(documents) - set(now) == {documents[2]}  # what was changed since is left as it is
    assert asked(alpha, CHUNKS) == chunks
    assert len(now) == len(documents) + 1
    with alpha.session() as connection:
        assert int(str(value(connection, "SELECT count(*) FROM aya_sync.changes"))) > noted
    walked(plan.rest(again, merge=True, keep=False), nodes)
    assert asked(alpha, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'restored%'") == []


def test_a_dropped_table_comes_back_with_all_that_belongs_to_it(nodes: Nodes) -> None:
    """Its rows, key, indexes, triggers, grants, its sequence, and the foreign key of the table that referred to it."""
    alpha = nodes["ALPHA"]
    before = {name: asked(alpha, query) for name, query in EVERYTHING.items()}
    sql(alpha, "DROP TABLE documents CASCADE")
    found = copied(nodes)
    assert found.copied[0].dropped
    assert [key.child for key in found.copied[0].lacking] == ["public.chunks"]
    walked(plan.put(found, merge=True), nodes)
    again = look.look(nodes, "", BOTH, found)
    assert {check.status for check in judge.merged(again, merge=True)} == {"passed"}, judge.merged(again, merge=True)
    after = {name: asked(alpha, query) for name, query in EVERYTHING.items()}
    assert after == before
    sql(alpha, "SET ROLE aya_user; INSERT INTO documents (content) VALUES ('it goes on')")
    walked(plan.rest(again, merge=True, keep=False), nodes)


EVERYTHING = {
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "triggers": "SELECT tgname::text || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    "keys": "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' ORDER BY 1",
    "grants": "SELECT relacl::text FROM pg_class WHERE relname LIKE 'documents%' AND relacl IS NOT NULL ORDER BY 1",
    "rows": CHUNKS,
}


def test_a_run_that_was_killed_goes_on_from_what_is_there(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = nodes["ALPHA"]
    sql(alpha, "DELETE FROM chunks WHERE id = (SELECT min(id) FROM chunks)")
    found = look.look(nodes, "", BOTH)
    with monkeypatch.context() as broken:
        broken.setattr("aya_lib.operations.restore_backup.tables.copying.parsed", _dies_on("public.chunks"))
        with pytest.raises(AyaError, match="ended here"):
            walked(plan.prepare(found), nodes)
    half = look.look(nodes, "", BOTH, found)
    assert [*half.copies] == ["public.documents"]  # type: ignore[misc]
    assert half.copied == ()
    walked(plan.prepare(half), nodes)
    whole = look.look(nodes, "", BOTH, found)
    assert not plan.prepare(whole)
    assert whole.copied[1].missing == 1
    other = look.look(nodes, "latest", BOTH)
    titles = [step.title for step in plan.prepare(other).changes]
    assert titles[0].startswith("Remove the copies of another point in time")
    walked(plan.put(whole, merge=True), nodes)
    walked(plan.rest(look.look(nodes, "", BOTH, found), merge=True, keep=False), nodes)


def _dies_on(name: str):  # type: ignore[no-untyped-def]
    from aya_lib.operations.restore_backup.tables.definition import parsed

    def dies(content):  # type: ignore[no-untyped-def]
        if content["name"] == name:
            raise AyaError("ended here")
        return parsed(content)

    return dies


def test_a_parent_that_is_not_brought_along_stops_the_merge_and_nothing_is_changed(nodes: Nodes) -> None:
    alpha = nodes["ALPHA"]
    sql(alpha, "DELETE FROM documents WHERE id = 4")
    found = look.look(nodes, "", ["chunks"])
    walked(plan.prepare(found), nodes)
    found = look.look(nodes, "", ["chunks"], found)
    count = asked(alpha, "SELECT count(*) FROM chunks")
    with pytest.raises(AyaError, match=r"violates foreign key .*name the table that it refers to as well"):
        walked(plan.put(found, merge=True), nodes)
    assert asked(alpha, "SELECT count(*) FROM chunks") == count
    found = copied(nodes)
    walked(plan.put(found, merge=True), nodes)
    walked(plan.rest(look.look(nodes, "", BOTH, found), merge=True, keep=False), nodes)


def test_the_runbook_shows_first_and_merges_when_it_is_told_to(site: Site, nodes: Nodes) -> None:
    alpha = nodes["ALPHA"]
    chunks = asked(alpha, CHUNKS)
    sql(alpha, "DELETE FROM chunks WHERE id = (SELECT max(id) FROM chunks)")
    dry = step("restore_backup", site=site.name, dry_run=True, merge=True)
    assert (dry.error, dry.record["outcome"], dry.done) == (None, "planned", [])
    shown = passed(step("restore_backup", site=site.name))
    assert shown.check("nothing waits to be merged")["status"] == "warning"
    assert len(asked(alpha, CHUNKS)) == len(chunks) - 1
    merged = passed(step("restore_backup", site=site.name, merge=True))
    assert [title.split(" ", 1)[0] for title in merged.done] == ["Insert", "Remove"]
    assert asked(alpha, CHUNKS) == chunks
    outside = step("restore_backup", site=site.name, to="2001-01-01T00:00:00Z")
    assert "is before the first backup; what can be restored: " in str(outside.error)


def test_a_schema_of_somebody_else_and_an_unknown_table_are_refused_in_one_line(nodes: Nodes) -> None:
    alpha = nodes["ALPHA"]
    schema = look.look(nodes, "", BOTH).schema
    sql(alpha, f"CREATE SCHEMA {schema}")
    try:
        failed = [check for check in judge.preconditions(look.look(nodes, "", BOTH)) if check.status != "passed"]
        assert [(check.name, check.status) for check in failed] == [(f"{schema} is free for the copies", "failed")]
    finally:
        sql(alpha, f"DROP SCHEMA {schema}")
    failed = [check for check in judge.preconditions(look.look(nodes, "", ["document"])) if check.status != "passed"]
    assert [(check.name, check.hint) for check in failed] == [("the backup has the tables", "did you mean 'public.documents'?")]


def stopped(found: Whole) -> list[str]:
    return [check.name for check in whole_judge.preconditions(found) if check.status in ("failed", "unknown")]


def test_it_is_refused_while_anything_of_the_pair_runs(nodes: Nodes) -> None:
    found = whole_look.look(nodes, "")
    assert stopped(found) == ["no server runs on ALPHA", "no server runs on BETA"]
    hints = [check.hint for check in whole_judge.preconditions(found) if check.name == "no server runs on ALPHA"]
    assert hints[0].startswith("Stop it, if this is what you want: ")
    assert "the backups are on the same machine" in stopped(whole_look.look(nodes, "", "ALPHA"))
    stepped = step("restore_backup", site=nodes.site.name, tables=[])
    assert isinstance(stepped.error, RequirementFailed)
    assert stepped.done == []
    small = replace(found, room=1)
    assert "room for the restored cluster" in stopped(small)
    assert isinstance(found.aim, Aim)
    foreign = replace(found, aim=replace(found.aim, repository=replace(found.aim.repository, system_identifier="1")))
    assert "the backups are of this cluster" in stopped(foreign)
    for wanted, line in (("2001-01-01T00:00:00Z", "before the first backup"), ("2101-01-01T00:00:00Z", "in the future")):
        with pytest.raises(AyaError, match=f"{line}; what can be restored: "):
            whole_look.look(nodes, wanted)


def test_the_cluster_comes_back_to_just_before_a_delete_and_the_standby_rejoins(
    site: Site, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = nodes["ALPHA"], nodes["BETA"]
    sql(alpha, "INSERT INTO documents (content) VALUES ('after the backup')")
    before = asked(alpha, ROWS)
    (lsn,) = asked(alpha, "SELECT pg_current_wal_insert_lsn()::text")
    sql(alpha, "DELETE FROM documents")
    sql(alpha, "SELECT pg_switch_wal()")
    received(nodes)
    for node in (alpha, beta):
        node.supervisor.stop("postgresql")
    found = whole_look.look(nodes, str(lsn), by="somebody")
    assert stopped(found) == []

    with monkeypatch.context() as broken:  # ended after the restore, before the promotion
        broken.setattr(replay, "aim", ended_here)
        with pytest.raises(AyaError, match="ended here"):
            walked(whole_plan.prepare(found), nodes)
    half = whole_look.look(nodes, "", before=found)
    assert not half.ready
    assert [step.title for step in whole_plan.prepare(half).changes] == [step.title for step in whole_plan.prepare(found).changes]
    walked(whole_plan.prepare(half), nodes)
    ready = whole_look.look(nodes, "", before=found)
    assert ready.ready
    assert not whole_plan.prepare(ready)
    assert [check.status for check in whole_judge.proven(ready)] == ["passed"]

    whole = whole_plan.put(ready)
    assert [step.undo is None for step in whole.changes] == [step.title.startswith("Start BETA") for step in whole.changes]
    for count in range(1, len(whole.changes)):  # broken off at every step: undone, as it was
        failing = replace(
            whole, changes=(*whole.changes[:count], replace(whole.changes[0], action=Fails(), undo=None, vital=True))
        )
        with pytest.raises(AyaError, match="was undone"):
            walked(failing, nodes)
        again = whole_look.look(nodes, "", before=found)
        assert (again.ready, again.overview.state.primary, again.overview.state.fenced) == (True, None, {})
    for count in range(1, len(whole.changes)):  # killed at every step: what is left is planned anew
        apply(replace(whole, changes=whole.changes[count - 1 : count]), nodes, lambda *_: None)
        left = [step.title for step in whole_plan.put(whole_look.look(nodes, "", before=found)).changes]
        assert left[-1].startswith("Start BETA")
        assert len(left) <= len(whole.changes)
    now = whole_look.look(nodes, "", before=found)
    assert now.placed
    assert stopped(now) == []
    with monkeypatch.context() as broken:  # the start is not seen to end: nothing is undone below a server that runs
        broken.setattr("aya_lib.plan.actions.until_it_answers", not_seen)
        with pytest.raises(AyaError, match="What was done before it stays"):
            walked(whole_plan.put(now), nodes)
    answers(beta)
    after = whole_look.look(nodes, "", before=found)
    assert [check.status for check in whole_judge.serves(ready)(site, after)] == ["passed", "passed"]
    rerun = reachable(
        lambda: whole_look.look(nodes, str(lsn))
    )  # killed after the start: what is left is done, although WAL has gone on
    assert (stopped(rerun), len(whole_plan.prepare(rerun)), len(whole_plan.put(rerun)), len(whole_plan.rest(rerun))) == (
        [],
        0,
        0,
        4,
    )
    walked(whole_plan.rest(after), nodes)

    assert asked(beta, ROWS) == before
    is_now = server.look(beta)
    assert isinstance(is_now, Cluster)
    assert (is_now.in_recovery, is_now.timeline) == (False, 2)
    assert [*state.read(site).fenced] == ["ALPHA"]
    kept = [path.name for path in beta.data_directory.parent.iterdir() if ".before-" in path.name]
    assert len(kept) == 1
    assert not whole_look.incoming(beta).exists()
    assert "no server runs on BETA" in stopped(reachable(lambda: whole_look.look(nodes, "")))

    passed(step("rejoin", site=site.name, node="ALPHA"))
    streams_back(nodes)
    assert asked(alpha, ROWS) == before
