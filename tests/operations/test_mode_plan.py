"""replication_mode's gate and plan, without a database: what is missing comes out, also from every half-way state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from facts import NODES, NOW, SITE, UP, titles

from aya_lib.check import worst
from aya_lib.cluster.canary import Commits, Level
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import replication
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Sender, Settings, Slot, Stream
from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.state import Fence, State
from aya_lib.node.node import open_nodes
from aya_lib.node.unseen import Down, Unseen
from aya_lib.operations.replication_mode import plan, preconditions, reached, request
from aya_lib.operations.replication_mode.actions import AwaitSync
from aya_lib.operations.replication_mode.judge import names
from aya_lib.operations.replication_mode.look import Cancelled, Found, Request, Server, Setting, Store
from aya_lib.plan.actions import Script, Service, SetState, WriteFile
from aya_lib.plan.actions import Setting as Set
from aya_lib.plan.change import Change
from aya_lib.site import Site

MB = 1024**2
SLOT = Slot("beta_slot", True, 12, "reserved", 90 * MB)
STREAM = Stream("beta", "127.0.0.1", 12, "streaming", "async", 0, 0.1, None)
BEFORE = {
    "synchronous_standby_names": "",
    "synchronous_commit": "on",
    "max_slot_wal_keep_size": "96",
    "wal_keep_size": "32",
    "archive_mode": "off",
    "archive_command": "",
    "restore_command": "",
}
SYNCHRONOUS, ASYNCHRONOUS, DEGRADED = (Request(mode, "me") for mode in ("synchronous", "asynchronous", "degraded"))
WAITED = Commits("ALPHA", Level("on", 20, 1.0, True), ())
NONE_WAITED = Commits("ALPHA", Level("on", 20, 1.0, False), ())
UNSEEN = Unseen("BETA", "SQL", "no answer within 2 s")


def server(node: str, **values: str) -> Server:
    return Server({name: Setting(name, value) for name, value in {**BEFORE, **values}.items()})


def node(name: str, *, recovery: bool, sender: Sender | None = None) -> NodeSeen:
    cluster = Cluster(name, "7", recovery, "18.1", 1, "0/5")
    files = Files(name, recovery, "7", 1, "in production", "0/5")
    return NodeSeen(name, UP, None, files, cluster, sender, None, None)


def sender(stream: Stream | None = STREAM, names: str = "", keep: int = 96, slot: Slot = SLOT, waiting: int = 0) -> Sender:
    return Sender("ALPHA", (stream,) if stream else (), (slot,), Settings(names, "on", keep, waiting))


def facts(
    alpha: Server | None = None,
    stream: Stream | None = STREAM,
    state: State | None = None,
    beta: NodeSeen | None = None,
    stores: Mapping[str, Store | None] | None = None,
) -> Found:
    alpha = alpha or server("ALPHA")
    sends = sender(stream, alpha.value("synchronous_standby_names"), int(alpha.value("max_slot_wal_keep_size")))
    nodes = {"ALPHA": node("ALPHA", recovery=False, sender=sends), "BETA": beta or node("BETA", recovery=True)}
    servers = {"ALPHA": alpha, "BETA": server("BETA")}
    kept = stores or {"ALPHA": None, "BETA": None}
    seen = Overview(NOW, nodes, state or State())
    return Found(NODES, seen, "ALPHA", "BETA", servers, kept, Cancelled(0), stream)


def is_synchronous(standing: State | None = None) -> Found:
    return facts(server("ALPHA", synchronous_standby_names=names("beta")), replace(STREAM, sync_state="sync"), standing)


def down(mode: Found) -> Found:
    """The same with BETA away."""
    gone = replace(node("BETA", recovery=True), cluster=Down("BETA", "connection refused"))
    sends = replace(mode.overview.nodes["ALPHA"].sender, streams=(), slots=(replace(SLOT, active=False, active_pid=None),))  # type: ignore[type-var]
    alpha = replace(mode.overview.nodes["ALPHA"], sender=sends)
    servers = {**mode.servers, "BETA": Down("BETA", "connection refused")}
    return replace(mode, overview=replace(mode.overview, nodes={"ALPHA": alpha, "BETA": gone}), servers=servers, stream=None)


def on(site: Site, mode: Found) -> Found:
    """The same facts of another site."""
    return replace(mode, nodes=open_nodes(site))


@pytest.fixture(scope="module")
def archiving() -> Site:
    keeps = SITE.replication.model_copy(update={"archive_directory": Path("archive")})
    return SITE.model_copy(update={"replication": keeps})


def done(mode: Found, step: Change) -> Found:
    """The facts after a change, as the servers would show them."""
    action, servers, stores = step.action, dict(mode.servers), dict(mode.stores)
    here = servers[step.node]
    assert isinstance(here, Server)
    if isinstance(action, SetState):
        standing = replace(mode.overview.state, **action.changes)
        return replace(mode, overview=replace(mode.overview, state=standing))
    if isinstance(action, Set) and action.name == "archive_mode":
        waiting = replace(here.settings["archive_mode"], pending_restart=True)
        servers[step.node] = replace(here, settings={**here.settings, "archive_mode": waiting})
    elif isinstance(action, Set):
        value = (action.value or "").removesuffix("MB")
        changed = {**here.settings, action.name: Setting(action.name, value, own=True)}
        servers[step.node] = replace(here, settings=changed)
    elif isinstance(action, Service):
        servers[step.node] = replace(here, settings={**here.settings, "archive_mode": Setting("archive_mode", "on", own=True)})
    elif isinstance(action, AwaitSync):
        assert mode.stream is not None
        return replace(mode, stream=replace(mode.stream, sync_state="sync"))
    elif isinstance(action, Script):
        stores = {name: replace(store, folder="there") for name, store in stores.items() if isinstance(store, Store)}
    elif isinstance(action, WriteFile):
        store = stores[step.node]
        assert isinstance(store, Store)
        stores[step.node] = replace(store, installed=True)
    return replace(mode, servers=servers, stores=stores)


def test_nothing_is_changed_where_the_mode_holds() -> None:
    assert not plan(ASYNCHRONOUS, facts())
    assert not plan(ASYNCHRONOUS, facts(state=State(mode="asynchronous")))
    agreed = is_synchronous(State(mode="synchronous"))
    assert not plan(SYNCHRONOUS, agreed)
    assert not plan(SYNCHRONOUS, agreed, WAITED)


def test_synchronous_is_written_down_only_once_it_was_proven() -> None:
    first = plan(SYNCHRONOUS, facts())
    assert titles(first.changes) == ["ALPHA: Let commits wait for BETA", "ALPHA: Be sure that commits wait for BETA"]
    assert first.unwind
    assert first.changes[0].undo == Set("synchronous_standby_names", None)
    for proof in (None, NONE_WAITED, UNSEEN):
        assert not plan(SYNCHRONOUS, is_synchronous(), proof)
    assert titles(plan(SYNCHRONOUS, is_synchronous(), WAITED).changes) == ["ALPHA: Write down that replication is synchronous"]


@pytest.mark.parametrize("requested", [DEGRADED, ASYNCHRONOUS])
def test_a_promise_is_taken_back_before_it_ends(requested: Request) -> None:
    seen = down(is_synchronous(State(mode="synchronous", mode_since="then", mode_by="you")))
    found = plan(requested, seen)
    assert titles(found.changes) == [
        f"ALPHA: Write down that replication is {requested.mode}",
        "ALPHA: Let commits wait for nobody",
    ]
    assert not found.unwind
    undo = found.changes[0].undo
    assert isinstance(undo, SetState)
    assert undo.changes == {"mode": "synchronous", "mode_since": "then", "mode_by": "you"}
    assert undo.entry is not None
    assert (undo.entry["was"], undo.entry["taken_back"]) == (requested.mode, True)


def test_the_names_are_those_the_standby_gives_itself() -> None:
    strange = facts(stream=replace(STREAM, application_name='of "mine"'))
    action = plan(SYNCHRONOUS, strange).changes[0].action
    assert action == Set("synchronous_standby_names", 'FIRST 1 ("of ""mine""")')
    assert (
        plan(SYNCHRONOUS, strange)
        .changes[0]
        .command.startswith('ALTER SYSTEM SET synchronous_standby_names = \'FIRST 1 ("of ""mine""")\';')
    )


def test_what_a_commit_waits_for_is_settled_before_it_waits() -> None:
    seen = facts(server("ALPHA", synchronous_commit="local", max_slot_wal_keep_size="-1"))
    assert titles(plan(SYNCHRONOUS, seen).changes) == [
        "ALPHA: Limit the WAL that a slot may hold",
        "ALPHA: Say what a commit waits for",
        "ALPHA: Let commits wait for BETA",
        "ALPHA: Be sure that commits wait for BETA",
    ]
    limit = plan(SYNCHRONOUS, seen).changes[0]
    assert limit.action == Set("max_slot_wal_keep_size", "96MB")


def test_an_undo_puts_back_what_was_set_and_resets_what_was_not() -> None:
    mine = server("ALPHA", max_slot_wal_keep_size="512")
    settings = {**mine.settings, "max_slot_wal_keep_size": Setting("max_slot_wal_keep_size", "512", own=True)}
    assert plan(ASYNCHRONOUS, facts(mine)).changes[0].undo == Set("max_slot_wal_keep_size", None)
    own = facts(replace(mine, settings=settings))
    assert plan(ASYNCHRONOUS, own).changes[0].undo == Set("max_slot_wal_keep_size", "512MB")


def test_an_archive_is_installed_on_both_nodes_the_standby_first(archiving: Site) -> None:
    bare = {name: Store("/usr/bin/python3", False, "absent") for name in ("ALPHA", "BETA")}
    found = plan(ASYNCHRONOUS, on(archiving, facts(stores=bare))).changes
    of_one = [
        "Make the archive's folder",
        "Install the archive program",
        "Set the archive_command",
        "Set the restore_command",
        "Turn archiving on",
        "Restart PostgreSQL: archive_mode is read at the start",
    ]
    assert titles(found) == [f"{name}: {title}" for name in ("BETA", "ALPHA") for title in of_one]
    assert [step.interrupts for step in found[:6]] == [False] * 5 + [True]
    command = found[2].action
    assert isinstance(command, Set)
    folder = archiving.path(Path("archive"))
    assert command.value == f"/usr/bin/python3 -I aya_archive_wal.py --into {folder} %p %f"


@pytest.mark.parametrize("requested", [SYNCHRONOUS, ASYNCHRONOUS, DEGRADED])
def test_from_every_half_way_state_the_rest_of_the_plan_comes_out(archiving: Site, requested: Request) -> None:
    bare = {name: Store("/usr/bin/python3", False, "there") for name in ("ALPHA", "BETA")}
    standing = State(mode="synchronous", mode_since="then", mode_by="you")
    starts = facts(server("ALPHA", synchronous_commit="off"), stores=bare)
    if not requested.synchronous:
        starts = facts(server("ALPHA", synchronous_standby_names=names("beta")), state=standing, stores=bare)
    whole = plan(requested, on(archiving, starts)).changes
    assert len(whole) >= 10
    state = on(archiving, starts)
    for count, step in enumerate(whole, 1):
        state = done(state, step)
        assert titles(plan(requested, state).changes) == titles(whole[count:])


def test_synchronous_is_refused_while_the_standby_is_away() -> None:
    assert worst(preconditions(SYNCHRONOUS, facts())) == "passed"
    for seen in (
        down(facts()),
        facts(stream=replace(STREAM, state="catchup")),
        facts(stream=replace(STREAM, reply_age_s=60.0)),
    ):
        found = [check for check in preconditions(SYNCHRONOUS, seen) if check.status == "failed"]
        assert [check.name for check in found] == ["BETA listens"]
        assert "Run restore" in found[0].hint
        assert "mode=degraded" in found[0].hint
        assert worst(preconditions(ASYNCHRONOUS, seen)) == "passed"


def test_not_waiting_is_refused_while_nobody_knows_whether_the_standby_was_promoted() -> None:
    away = replace(node("BETA", recovery=True), cluster=UNSEEN)
    seen = facts(beta=away, stream=None)
    found = [check for check in preconditions(ASYNCHRONOUS, seen) if check.status == "unknown"]
    assert [check.name for check in found] == ["no second primary"]
    assert "confirmed_by=NAME" in found[0].hint
    assert worst(preconditions(replace(ASYNCHRONOUS, confirmed_by="me"), seen)) == "passed"
    two = facts(beta=node("BETA", recovery=False))
    assert worst(preconditions(replace(ASYNCHRONOUS, confirmed_by="me"), two)) == "failed"


def test_a_fenced_primary_is_not_touched() -> None:
    fence = Fence("ALPHA", "then", "you", "stopped", "BETA was made the primary")
    assert worst(preconditions(ASYNCHRONOUS, facts(state=State(fenced={"ALPHA": fence}, primary="ALPHA")))) == "failed"


def test_degraded_needs_a_promise_that_it_suspends() -> None:
    assert worst(preconditions(DEGRADED, facts())) == "failed"
    assert worst(preconditions(DEGRADED, facts(state=State(mode="synchronous")))) == "passed"
    synchronous = SITE.replication.model_copy(update={"mode": "synchronous"})
    assert worst(preconditions(DEGRADED, on(SITE.model_copy(update={"replication": synchronous}), facts()))) == "passed"


def test_what_was_asked_for() -> None:
    assert request(SITE).mode == "asynchronous"
    assert request(SITE, "degraded", by="me", why="x") == Request("degraded", "me", "x")
    assert request(SITE).by


def test_a_mode_is_reached_only_when_marked_commits_say_so_too() -> None:
    good = is_synchronous(State(mode="synchronous"))
    assert failing(SYNCHRONOUS, good, WAITED) == []
    assert failing(SYNCHRONOUS, good, NONE_WAITED) == ["marked commits"]
    assert failing(SYNCHRONOUS, is_synchronous(), WAITED) == ["the state says so"]
    assert failing(ASYNCHRONOUS, facts(), WAITED) == ["marked commits"]
    assert failing(ASYNCHRONOUS, facts(), NONE_WAITED) == []
    unproven = [check for check in reached(SYNCHRONOUS, good, UNSEEN) if check.status == "unknown"]
    assert [check.name for check in unproven] == ["marked commits"]


def test_roles_that_never_wait_and_waits_that_were_broken_off_warn() -> None:
    good = is_synchronous(State(mode="synchronous"))
    alpha = good.servers["ALPHA"]
    assert isinstance(alpha, Server)
    told = replace(alpha, exempt=("aya_user in every database: synchronous_commit=off",))
    seen = replace(good, servers={**good.servers, "ALPHA": told}, cancelled=Cancelled(2, "WARNING: x"))
    warned = {check.name: check.observed for check in reached(SYNCHRONOUS, seen, WAITED) if check.status == "warning"}
    assert warned["exempt from waiting on ALPHA"].startswith("aya_user")
    assert warned["waits broken off"] == "2; WARNING: x"


@pytest.mark.parametrize(
    ("names_set", "sync", "agreed", "requested", "status", "told"),
    [
        ("", "async", None, "asynchronous", "passed", "asynchronous"),
        ("x", "sync", "synchronous", "synchronous", "passed", "synchronous"),
        ("x", "quorum", "synchronous", "synchronous", "passed", "synchronous"),
        ("", "async", "degraded", "synchronous", "warning", "degraded since then, by you: commits wait for nobody"),
        ("", "async", "synchronous", "synchronous", "warning", "asynchronous, but synchronous was agreed then, by you"),
        ("x", "sync", "degraded", "synchronous", "warning", "synchronous, but degraded was agreed then, by you"),
        ("", "async", None, "synchronous", "warning", "asynchronous"),
        ("x", "sync", "synchronous", "asynchronous", "warning", "synchronous"),
        ("x", "async", "synchronous", "synchronous", "failed", "synchronous, and no standby is there: commits wait (3 now)"),
    ],
)
def test_the_status_page_tells_a_mode_that_is_not_what_it_should_be(
    names_set: str, sync: str, agreed: str | None, requested: str, status: str, told: str
) -> None:
    site = SITE.model_copy(update={"replication": SITE.replication.model_copy(update={"mode": requested})})
    standing = State(mode=agreed, mode_since="then", mode_by="you")  # type: ignore[arg-type]
    sends = sender(replace(STREAM, sync_state=sync), names_set, waiting=3)
    both = {"ALPHA": node("ALPHA", recovery=False, sender=sends), "BETA": node("BETA", recovery=True)}
    check = next(one for one in glance.judge(site, Overview(NOW, both, standing)) if one.name == "replication mode")
    assert (check.status, check.observed) == (status, told)
    assert bool(check.hint) == (status != "passed")


def test_a_slot_warns_before_it_is_lost() -> None:
    warn = SITE.replication.slot_warn_mb * MB
    for room, status in ((warn, "passed"), (warn - 1, "warning"), (-1, "warning"), (None, "passed")):
        near = replace(SLOT, safe_wal_size=room)
        assert replication.slot(SITE, sender(slot=near)).status == status
    away = replication.slot(SITE, sender(slot=replace(SLOT, active=False, safe_wal_size=1)))
    assert away.status == "failed"
    assert "about to be lost" in away.hint


@pytest.mark.parametrize(("keep", "status"), [(96, "passed"), (-1, "warning"), (95, "warning")])
def test_a_slot_without_a_limit_warns(keep: int, status: str) -> None:
    assert replication.slot_limit(SITE, sender(keep=keep)).status == status


def failing(requested: Request, seen: Found, proof: Commits) -> list[str]:
    return [check.name for check in reached(requested, seen, proof) if check.status in ("failed", "unknown")]
