"""The whole cluster from a backup: refused beside what serves, proven beside, put in its place, and the standby comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pairs import reconfigured
from tests_support import make, passed, step, up

from aya_lib import lab as labs
from aya_lib.backup import replay
from aya_lib.backup.look import look as look_backups
from aya_lib.backup.records import Repository, Target
from aya_lib.cluster import overview, server, state
from aya_lib.cluster.lsn import number
from aya_lib.cluster.server import Cluster
from aya_lib.errors import AyaError, RequirementFailed
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.node.sql import column
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.operations.restore_backup.whole import judge, look, plan
from aya_lib.operations.restore_backup.whole.look import Whole
from aya_lib.plan.change import Plan, apply
from aya_lib.site import Site


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Site]:
    made = reconfigured(make(place, "bad-day"), lambda config: [node.pop("embedding", None) for node in config["nodes"].values()])
    try:
        up(made)
        for node in open_nodes(made).pair:
            sql(node, "ALTER SYSTEM SET fsync = off")  # durability is not the subject here
        passed(step("backup", site=made.name))
        yield made
    finally:
        labs.delete(made)


@pytest.fixture
def nodes(site: Site) -> Nodes:
    return open_nodes(site)


def sql(node: Node, statement: str) -> None:
    with node.session(write=True, deadline_s=60) as connection:
        connection.execute(statement.encode())


def asked(node: Node, query: str) -> list[object]:
    with node.session() as connection:
        return column(connection, query)


def walked(found: Plan, nodes: Nodes) -> None:
    commands = " ".join(step.command for step in found.changes)
    assert "rm -rf" not in commands
    assert "DROP" not in commands
    apply(found, nodes, lambda *_: None)


def refused(found: Whole) -> list[str]:
    return [check.name for check in judge.preconditions(found) if check.status in ("failed", "unknown")]


ROWS = "SELECT md5(d::text) FROM documents d ORDER BY id"


def test_it_is_refused_while_anything_of_the_pair_runs(nodes: Nodes) -> None:
    found = look.look(nodes, "")
    assert refused(found) == ["no server runs on ALPHA", "no server runs on BETA"]
    hints = [check.hint for check in judge.preconditions(found) if check.name == "no server runs on ALPHA"]
    assert hints[0].startswith("Stop it, if this is what you want: ")
    assert "the backups are on the same machine" in refused(look.look(nodes, "", "ALPHA"))
    stepped = step("restore_backup", site=nodes.site.name, tables=[])
    assert isinstance(stepped.error, RequirementFailed)
    assert stepped.done == []
    small = replace(found, room=1)
    assert "room for the restored cluster" in refused(small)
    assert isinstance(found.aim, Aim)
    foreign = replace(found, aim=replace(found.aim, repository=replace(found.aim.repository, system_identifier="1")))
    assert "the backups are of this cluster" in refused(foreign)
    for wanted, line in (("2001-01-01T00:00:00Z", "before the first backup"), ("2101-01-01T00:00:00Z", "in the future")):
        with pytest.raises(AyaError, match=f"{line}; what can be restored: "):
            look.look(nodes, wanted)


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
    found = look.look(nodes, str(lsn), by="somebody")
    assert refused(found) == []

    with monkeypatch.context() as broken:  # ended after the restore, before the promotion
        broken.setattr(replay, "aim", _ended_here)
        with pytest.raises(AyaError, match="ended here"):
            walked(plan.prepare(found), nodes)
    half = look.look(nodes, "", before=found)
    assert not half.ready
    assert [step.title for step in plan.prepare(half).changes] == [step.title for step in plan.prepare(found).changes]
    walked(plan.prepare(half), nodes)
    ready = look.look(nodes, "", before=found)
    assert ready.ready
    assert not plan.prepare(ready)
    assert [check.status for check in judge.proven(ready)] == ["passed"]

    whole = plan.put(ready)
    assert [step.undo is None for step in whole.changes] == [step.title.startswith("Start BETA") for step in whole.changes]
    for count in range(1, len(whole.changes)):  # broken off at every step: undone, as it was
        failing = replace(
            whole, changes=(*whole.changes[:count], replace(whole.changes[0], action=Fails(), undo=None, vital=True))
        )
        with pytest.raises(AyaError, match="was undone"):
            walked(failing, nodes)
        again = look.look(nodes, "", before=found)
        assert (again.ready, again.overview.state.primary, again.overview.state.fenced) == (True, None, {})
    for count in range(1, len(whole.changes)):  # killed at every step: what is left is planned anew
        apply(replace(whole, changes=whole.changes[count - 1 : count]), nodes, lambda *_: None)
        left = [step.title for step in plan.put(look.look(nodes, "", before=found)).changes]
        assert left[-1].startswith("Start BETA")
        assert len(left) <= len(whole.changes)
    now = look.look(nodes, "", before=found)
    assert now.placed
    assert refused(now) == []
    walked(plan.put(now), nodes)
    after = look.look(nodes, "", before=found)
    assert [check.status for check in judge.serves(ready)(site, after)] == ["passed", "passed"]
    rerun = look.look(nodes, str(lsn))  # killed after the start: what is left is done, although WAL has gone on
    assert (refused(rerun), len(plan.prepare(rerun)), len(plan.put(rerun)), len(plan.rest(rerun))) == ([], 0, 0, 4)
    walked(plan.rest(after), nodes)

    assert asked(beta, ROWS) == before
    is_now = server.look(beta)
    assert isinstance(is_now, Cluster)
    assert (is_now.in_recovery, is_now.timeline) == (False, 2)
    assert [*state.read(site).fenced] == ["ALPHA"]
    kept = [path.name for path in beta.data_directory.parent.iterdir() if ".before-" in path.name]
    assert len(kept) == 1
    assert not look.incoming(beta).exists()
    assert "no server runs on BETA" in refused(look.look(nodes, ""))

    passed(step("rejoin", site=site.name, node="ALPHA"))
    streams_back(nodes)
    assert asked(alpha, ROWS) == before


class Fails:
    """An action that fails."""

    def command(self, node: Node) -> str:
        return "false"

    def run(self, node: Node) -> None:
        raise AyaError("it fails")


AIMED = replay.aim


def _ended_here(*words: Any, promote: bool = False, **more: Any) -> Target:
    if promote:
        raise AyaError("ended here")
    return AIMED(*words, **more)


def received(nodes: Nodes) -> None:
    """The repository has all WAL that there is."""
    (now,) = asked(nodes["ALPHA"], "SELECT pg_current_wal_flush_lsn()::text")

    def there(found: object) -> bool:
        return isinstance(found, Repository) and found.flushed is not None and number(found.flushed.lsn) >= number(str(now))

    wait.until(lambda: look_backups(nodes), there, node="BETA", what=f"WAL to {now} is received", deadline_s=60, poll_s=0.5)


def streams_back(nodes: Nodes) -> None:
    def streams(found: object) -> bool:
        return ("alpha", "streaming") in [(one.application_name, one.state) for one in getattr(found, "streams", ())]

    wait.until(lambda: overview.look_node(nodes["BETA"]).sender, streams, node="ALPHA", what="it streams", deadline_s=60)
