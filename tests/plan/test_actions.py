"""Generic actions on this machine: what is written is whole, what runs as whom, and what fails says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aya_lib.cluster import state
from aya_lib.cluster.state import Fence, State
from aya_lib.errors import CommandFailed
from aya_lib.node.node import Node, open_nodes
from aya_lib.plan.actions import CreateSlot, Script, SetState, Setting, Sql, WriteFile, drop_slot, remove_file
from aya_lib.site import Site


@pytest.fixture
def node(lab_site: Site, tmp_path: Path) -> Node:
    """A node whose site's folder is the test's own; no server runs, and no action here needs one."""
    site = lab_site.model_copy(update={"directory": tmp_path})
    return open_nodes(site)["ALPHA"]


@pytest.fixture
def folder(place: Path, request: pytest.FixtureRequest) -> Path:
    """A folder that the cluster's account may write to."""
    made = place / str(request.node.name)
    made.mkdir()
    made.chmod(0o777)
    return made


def test_a_file_is_written_whole_with_its_mode_and_removed_twice(node: Node, folder: Path) -> None:
    path = folder / "it's a file"
    for text in ("one\n", "two"):
        WriteFile(path, text, mode="0640", then=("touch", str(folder / "after"))).run(node)
        assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o640)
    assert sorted(one.name for one in folder.iterdir()) == ["after", path.name]
    for _ in range(2):
        remove_file(path).run(node)
    assert not path.exists()
    closed = WriteFile(folder / "none" / "x", "text")
    with pytest.raises(CommandFailed, match=r"cannot create|Directory nonexistent|No such file"):
        closed.run(node)


def test_a_script_gets_its_words_unharmed_and_an_argument_list_needs_no_shell(node: Node, folder: Path) -> None:
    Script('printf "%s" "$2" > "$1"', (str(folder / "a"), "$(id) 'x'")).run(node)
    assert (folder / "a").read_text() == "$(id) 'x'"
    listed = Script(("cp", "--", str(folder / "a"), str(folder / "b c")))
    listed.run(node)
    assert (folder / "b c").read_text() == "$(id) 'x'"
    assert listed.command(node) == f"cp -- {folder}/a '{folder}/b c'"
    with pytest.raises(CommandFailed, match="status 3") as failed:
        Script("exit 3", hint="look there").run(node)
    assert failed.value.hint == "look there"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_it_runs_as_the_clusters_owner_or_as_root(node: Node, folder: Path) -> None:
    for name, root in (("owner", False), ("root", True)):
        Script('id -u > "$1"', (str(folder / name),), root=root).run(node)
    assert (folder / "root").read_text().strip() == "0"
    assert (folder / "owner").read_text().strip() != "0"


def test_what_was_agreed_on_is_written_field_by_field_and_logged(node: Node) -> None:
    mark = Fence("ALPHA", "then", "me", "stopped", "BETA was made the primary")
    fenced = SetState({"primary": "BETA"}, fence=mark, entry={"what": "test"})
    fenced.run(node)
    assert state.read(node.site) == State("BETA", {"ALPHA": mark})
    assert '"what": "test"' in state.log_path(node.site).read_text()
    assert fenced.command(node) == "standing.json: primary = BETA, ALPHA is fenced (stopped); a line in failover.jsonl"
    SetState({"under_way": {"kind": "planned", "old": "A", "new": "B"}}, lift="ALPHA").run(node)
    assert state.read(node.site).fenced == {}
    assert state.read(node.site).primary == "BETA"


def test_what_a_person_would_type_is_shown(node: Node) -> None:
    assert CreateSlot("s").command(node) == "SELECT pg_create_physical_replication_slot('s', true)"
    assert CreateSlot("s", checkpoint=True).command(node).startswith("CHECKPOINT; SELECT")
    assert drop_slot("it's").command(node).endswith("slot_name = 'it''s'")
    assert Setting("a", "it's").command(node) == "ALTER SYSTEM SET a = 'it''s'; SELECT pg_reload_conf()"
    assert Setting("a", None).command(node) == "ALTER SYSTEM RESET a; SELECT pg_reload_conf()"
    assert Sql("SELECT %s, %s", ("a", "b")).command(node) == "SELECT 'a', 'b'"
    assert Script("cat > x", root=True, shown="write x").command(node).endswith("write x")
