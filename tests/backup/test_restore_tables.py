"""Tables of a backup beside the live ones: what is said, planned, and brought back; nothing live is dropped or overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pairs import reconfigured
from tests_support import make, passed, step, up

from aya_lib import lab as labs
from aya_lib.air.setup.actions import Prepare
from aya_lib.errors import AyaError
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.node.sql import column, value
from aya_lib.operations.restore_backup.tables import judge, look, plan
from aya_lib.operations.restore_backup.tables.definition import Definition, Reference, divided, ordered, qualified, without
from aya_lib.operations.restore_backup.tables.look import Difference, Tables
from aya_lib.plan.change import Plan, apply
from aya_lib.site import Site

DUMP = r"""--
-- PostgreSQL database dump
--

\restrict abc

SET search_path = '';

--
-- Name: documents; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.documents (id integer NOT NULL);


--
-- Name: documents documents_pkey; Type: CONSTRAINT; Schema: public; Owner: postgres
--

ALTER TABLE ONLY public.documents ADD CONSTRAINT documents_pkey PRIMARY KEY (id);


--
-- Name: idx; Type: INDEX; Schema: public; Owner: postgres
--

CREATE INDEX idx ON public.documents (id);


--
-- Name: INDEX idx; Type: COMMENT; Schema: public; Owner: postgres
--

COMMENT ON INDEX public.idx IS 'x';


--
-- Name: documents noted; Type: TRIGGER; Schema: public; Owner: postgres
--

CREATE TRIGGER noted AFTER INSERT ON public.documents EXECUTE FUNCTION public.note();


--
-- PostgreSQL database dump complete
--

\unrestrict abc
"""


def test_a_table_is_made_before_its_rows_with_its_triggers_and_its_indexes_after_them() -> None:
    before, after = divided(DUMP)
    assert "CREATE TABLE" in before
    assert "PRIMARY KEY" in before
    assert "CREATE TRIGGER" in before
    assert after.splitlines() == ["CREATE INDEX idx ON public.documents (id);", "COMMENT ON INDEX public.idx IS 'x';"]
    assert "restrict" not in before + after
    assert "search_path" not in before + after


def defined(name: str, *parents: str, **more: object) -> Definition:
    return replace(Definition(name, (("id", "integer"),), ("id",), parents, (), {}, 3), **more)  # type: ignore[arg-type]


def test_parents_come_first_also_in_a_circle() -> None:
    found = ordered([defined("public.chunks", "public.documents"), defined("public.documents"), defined("a.b", "a.b")])
    assert [one.name for one in found] == ["public.documents", "a.b", "public.chunks"]
    assert len(ordered([defined("x.a", "x.b"), defined("x.b", "x.a")])) == 2


def test_tables_whose_rows_went_along_are_named() -> None:
    cascade = Reference("public.chunks", "fk", "FOREIGN KEY ...", True)
    parent = defined("public.documents", references=(cascade, replace(cascade, child="public.notes", cascades=False)))
    assert without([parent]) == {"public.chunks": ["public.documents"]}
    assert without([parent, defined("public.chunks")]) == {}


def test_tables_are_asked_for_with_or_without_their_schema() -> None:
    assert qualified(["documents", " public.documents ", "aya.x", ""]) == ("public.documents", "aya.x")


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


def sql(node: Node, *statements: str) -> None:
    with node.session(write=True, deadline_s=60) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def asked(node: Node, query: str) -> list[object]:
    with node.session() as connection:
        return column(connection, query)


def walked(found: Plan, nodes: Nodes, first: int | None = None) -> None:
    live = [step.command for step in found.changes]
    assert not any("DROP" in command and "restored_" not in command for command in live), live
    assert not any("rm -" in command or "TRUNCATE" in command or "pg_restore" in command for command in live), live
    apply(replace(found, changes=found.changes[:first]), nodes, lambda *_: None)


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
