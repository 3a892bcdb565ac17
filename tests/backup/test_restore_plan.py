"""What a table of a backup is made of, in which order tables come back, and which were forgotten: without a database."""

from __future__ import annotations

from dataclasses import replace

from aya_lib.operations.restore_backup.tables.definition import Definition, Reference, divided, ordered, qualified, without

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
