"""rejoin's gate, choice and plan, without a server: what is missing comes out, and what would do harm is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from facts import NODES, NOW, STOPPED, UP, stopping

from aya_lib.cluster.contents import Compared, Contents, TableSum
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Login, Sender, Slot
from aya_lib.cluster.server import Cluster, Files, Switch
from aya_lib.cluster.state import Fence, State
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Down, Unseen
from aya_lib.operations.rejoin import plan, preconditions, rest
from aya_lib.operations.rejoin.actions import Clone, Follow, Rewind, automatic
from aya_lib.operations.rejoin.look import Control, Details, Rejoin, Source
from aya_lib.operations.rejoin.method import choose
from aya_lib.operations.rejoin.report import Report, Salvaged, parse
from aya_lib.operations.rejoin.salvage import Save, rows_query
from aya_lib.operations.rejoin.staging import Journal, Staging, parse_copies
from aya_lib.operations.rejoin.waldump import NOWHERE, Past, Span

FORK = Switch(1, "0/3000000")
SLOT = Slot("beta_slot", False, None, "reserved", 10**8)
FENCED = State("BETA", {"ALPHA": Fence("ALPHA", "today", "me", "none", "BETA was made the primary")})
FILES = Files("ALPHA", False, "7", 1, "in production", "0/3000100", "{}")
ALPHA = NodeSeen("ALPHA", STOPPED, None, FILES, Down("ALPHA", "connection refused"), None, None, None)
LEADER = Cluster("BETA", "7", False, "18.1", 2, "0/4000000", None, (FORK,))
BETA = NodeSeen("BETA", UP, None, replace(FILES, node="BETA"), LEADER, Sender("BETA", (), (SLOT,)), None, None)
STAGING = Staging(True, False, False, None, (), True, False)
PAST = Past((Span(1, "0/3000000"),), "0/3000400", ("000000010000000000000003",), 2, (700, 701))
LOGIN = Login("ALPHA", "BETA", "replicator", "/pw", "")
STALE = replace(LOGIN, said='FATAL: password authentication failed for user "replicator"')
SOURCE = Source(10**9, 10**8, 0, True)
DETAILS = Details(Control(True, False, 16 << 20), FORK, PAST, True, False, SOURCE, LOGIN, 1e8, 10**11, 10**11)
CLEAN = replace(FILES, state="shut down", lsn="0/3000000")
NOTHING = replace(DETAILS, past=replace(PAST, end="0/3000000", commits=0, xids=()))
JOURNAL = Journal("ALPHA", "clone", "7", 2, True)
SAVED = Report("ALPHA", "BETA", "t", "7", 1, "0/3000000", "0/3000400", "0/3000100", 1024, (), 2)


def rejoin(
    alpha: NodeSeen = ALPHA,
    beta: NodeSeen = BETA,
    state: State = FENCED,
    details: Details | None = DETAILS,
    **other: object,
) -> Rejoin:
    glance = Overview(NOW, {"ALPHA": alpha, "BETA": beta}, state)
    seen = Rejoin(NODES, glance, "ALPHA", STAGING, None, (), details)
    return replace(seen, **other)  # type: ignore[arg-type]


def titles(seen: Rejoin, method: str = "auto", *, remove_old: bool = False) -> list[str]:
    return [step.title.split()[0] for step in plan(seen, method, remove_old=remove_old).changes]


def refused(seen: Rejoin, method: str = "auto") -> list[str]:
    return list(stopping(preconditions(seen, method)))


def test_what_was_left_behind_is_saved_cloned_swapped_and_started() -> None:
    assert refused(rejoin()) == []
    assert titles(rejoin()) == ["Save", "Clone", "Put", "Lift", "Start"]
    assert titles(rejoin(), "rewind") == ["Save", "Rewind", "Lift", "Start"]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (rejoin(salvage=(Salvaged("f", SAVED),)), ["Clone", "Put", "Lift", "Start"]),
        (rejoin(salvage=(Salvaged("f", replace(SAVED, left="0/2")),)), ["Save", "Clone", "Put", "Lift", "Start"]),
        (rejoin(staging=replace(STAGING, incoming=True)), ["Save", "Clone", "Put", "Lift", "Start"]),
        (rejoin(staging=replace(STAGING, incoming=True, journal=JOURNAL)), ["Put", "Lift", "Start"]),
        (rejoin(staging=replace(STAGING, incoming=True, journal=JOURNAL, data=False)), ["Put", "Lift", "Start"]),
        (rejoin(staging=replace(STAGING, journal=JOURNAL), alpha=replace(ALPHA, files=CLEAN)), ["Lift", "Start"]),
        (rejoin(staging=replace(STAGING, journal=JOURNAL), state=State("BETA")), ["Take", "Start"]),
        (rejoin(staging=replace(STAGING, journal=replace(JOURNAL, timeline=1))), ["Save", "Clone", "Put", "Lift", "Start"]),
        (rejoin(staging=replace(STAGING, journal=replace(JOURNAL, node="BETA"))), ["Save", "Clone", "Put", "Lift", "Start"]),
        (
            rejoin(staging=replace(STAGING, journal=replace(JOURNAL, method="rewind", done=False))),
            ["Clone", "Put", "Lift", "Start"],
        ),
        (rejoin(staging=replace(STAGING, journal=Journal("ALPHA", "rewind", "7", 1, False))), ["Clone", "Put", "Lift", "Start"]),
        (rejoin(staging=replace(STAGING, scratch=True)), ["End", "Save", "Clone", "Put", "Lift", "Start"]),
    ],
)
def test_from_every_half_way_state_the_plan_is_what_is_left(seen: Rejoin, expected: list[str]) -> None:
    found = titles(seen)
    assert [one for one in found if one != "Take"] == [one for one in expected if one != "Take"]
    assert refused(seen) == []


def test_an_unfinished_folder_is_filled_again_and_no_second_one_is_made() -> None:
    steps = plan(rejoin(salvage=(Salvaged("/x/ALPHA-20250101T000000Z", None),))).changes
    assert "ALPHA-20250101T000000Z" in steps[0].command
    assert "ALPHA-20260101T000000Z" in plan(rejoin()).changes[0].command


def test_nothing_is_given_up_before_it_streams_and_holds_the_same_rows() -> None:
    one, two = (Contents(name, "0/5", {"public.t": TableSum(1, 1, "1")}) for name in ("BETA", "ALPHA"))
    kept = replace(STAGING, journal=JOURNAL, kept=("data.before-20260101T000000Z",))
    standby = replace(
        ALPHA, process=UP, files=replace(FILES, fenced=None), cluster=replace(LEADER, node="ALPHA", in_recovery=True)
    )
    same = rejoin(standby, state=State("BETA"), details=None, compared=Compared(one, two), staging=kept)
    assert titles(same) == ["Write", "Take"]
    assert titles(same, remove_old=True) == ["Write", "Take", "Delete"]
    other = replace(two, tables={"public.t": TableSum(2, 2, "2")})
    differs = replace(same, compared=Compared(one, other), details=replace(DETAILS, fork=None, past=None))
    assert titles(replace(differs, staging=STAGING), remove_old=True) == ["Stop", "Clone", "Put", "Start"]
    assert titles(replace(same, staging=STAGING)) == []
    assert not rest(differs)
    busy = replace(
        differs, staging=STAGING, compared=Unseen("BETA", "compare contents with ALPHA", "rows changed during each of 5 tries")
    )
    assert titles(busy) == []  # no reason to make it anew


def test_a_frozen_server_is_killed_and_a_fenced_one_that_runs_is_stopped() -> None:
    frozen = replace(ALPHA, process=ServiceState("frozen", 9, NOW), cluster=Unseen("ALPHA", "SQL", "no answer"))
    assert titles(rejoin(frozen))[0] == "Kill"
    assert refused(rejoin(frozen, state=State("BETA"))) == []
    running = replace(ALPHA, process=UP, cluster=replace(LEADER, node="ALPHA", timeline=1, history=()))
    assert titles(rejoin(replace(running, autostart=True)))[:2] == ["Keep", "Stop"]
    assert refused(rejoin(running)) == []
    unmarked = replace(running, files=replace(FILES, fenced=None))
    assert refused(rejoin(unmarked, state=State("BETA"))) == ["ALPHA is not a second primary"]


def test_copies_that_run_on_are_known_by_program_and_folder_and_ended_first() -> None:
    table = """    7 /pg/bin/pg_basebackup -D /d/data.incoming -d host=beta -w
    8 pg_basebackup -D /d/data.incoming2 -d host=beta
   9 /pg/bin/pg_rewind -D /d/data --source-server=x
   10 tail -D /d/data.incoming -f
   11 [pg_basebackup] <defunct>
   12 sudo -n -u postgres -- /pg/bin/pg_basebackup -D /d/data.incoming -w
   13 /pg/bin/pg_rewind --source-server=x -D /d/data
"""
    targets = {"pg_basebackup": Path("/d/data.incoming"), "pg_rewind": Path("/d/data")}
    assert parse_copies(table, targets) == (7, 9, 13)
    assert titles(rejoin(staging=replace(STAGING, copies=(7,))))[:2] == ["End", "Save"]


def test_it_starts_by_itself_again_where_the_primary_does() -> None:
    off, on = replace(ALPHA, autostart=False), replace(BETA, autostart=True)
    found = plan(rejoin(off, on)).changes
    assert [step.title.split()[0] for step in found][-3:] == ["Let", "Lift", "Start"]
    assert titles(rejoin(off, replace(on, autostart=False)))[-2:] == ["Lift", "Start"]


def test_a_lost_slot_is_made_anew_and_a_missing_one_is_made() -> None:
    lost = replace(BETA, sender=Sender("BETA", (), (replace(SLOT, wal_status="lost"),)))
    assert titles(rejoin(beta=lost))[:2] == ["Drop", "Create"]
    assert titles(rejoin(beta=replace(BETA, sender=Sender("BETA", (), ()))))[0] == "Create"
    tight = replace(BETA, sender=Sender("BETA", (), (replace(SLOT, safe_wal_size=10**6),)))
    assert titles(rejoin(beta=tight))[:2] == ["Drop", "Create"]
    assert titles(rejoin(beta=tight), "rewind")[0] == "Save"  # pg_rewind may need what it holds


def test_a_copy_that_does_not_come_to_stream_can_be_made_anew() -> None:
    done = rejoin(staging=replace(STAGING, journal=replace(JOURNAL, method="rewind")), state=State("BETA"))
    assert titles(done) == ["Take", "Start"]
    assert titles(done, "clone") == ["Save", "Clone", "Put", "Start"]
    lost = replace(BETA, sender=Sender("BETA", (), (replace(SLOT, wal_status="lost"),)))
    assert "Clone" in titles(rejoin(beta=lost, staging=done.staging, state=State("BETA")))


def test_a_standby_that_is_only_down_is_only_started() -> None:
    files = replace(FILES, standby_signal=True, timeline=2, fenced=None)
    details = replace(DETAILS, fork=None, past=None)
    down = rejoin(replace(ALPHA, files=files), state=State("BETA"), details=details)
    assert titles(down) == ["Start"]
    bare = replace(files, standby_signal=False, state="shut down in recovery")
    assert titles(replace_files(down, bare)) == ["Put", "Start"]
    assert refused(replace(replace_files(down, bare), details=replace(details, free=0))) == []  # nothing is copied
    assert "Clone" in titles(replace_files(down, replace(bare, state="shut down")))  # it was a primary, and may have taken writes
    begun = replace(STAGING, journal=replace(JOURNAL, method="rewind", done=False))
    for half in (bare, files):
        assert "Clone" in titles(replace(replace_files(down, half), staging=begun))  # the primary's settings are in it


def replace_files(seen: Rejoin, files: Files) -> Rejoin:
    return rejoin(replace(seen.node, files=files), state=State("BETA"), details=seen.details)


@pytest.mark.parametrize(
    ("seen", "method", "expected"),
    [
        (rejoin(beta=replace(BETA, cluster=Down("BETA", "refused"), sender=None)), "auto", ["BETA is the primary"]),
        (rejoin(beta=replace(BETA, cluster=Unseen("BETA", "SQL", "deaf"), sender=None)), "auto", ["BETA is the primary"]),
        (rejoin(replace(ALPHA, files=replace(FILES, system_identifier="8"))), "auto", ["BETA and ALPHA are one system"]),
        (rejoin(staging=replace(STAGING, data=False)), "auto", ["BETA and ALPHA are one system"]),
        (rejoin(details=replace(DETAILS, fork=NOWHERE, past=None)), "auto", ["ALPHA has a history with BETA"]),
        (rejoin(details=replace(DETAILS, past=Unseen("ALPHA", "x", "y"))), "auto", ["what BETA never received is known"]),
        (rejoin(details=replace(DETAILS, free=10**9)), "auto", ["disk of ALPHA"]),
        (rejoin(details=replace(DETAILS, free=10**9)), "rewind", []),
        (rejoin(details=replace(DETAILS, wal_free=10**8)), "rewind", ["disk of ALPHA for pg_wal"]),
        (rejoin(details=replace(DETAILS, wal_free=10**8)), "clone", []),
        (rejoin(details=replace(DETAILS, source=replace(SOURCE, tablespaces=1))), "auto", []),  # by a rewind
        (rejoin(details=replace(DETAILS, source=replace(SOURCE, tablespaces=1))), "clone", ["clone can work"]),
        (rejoin(details=replace(DETAILS, control=Control(False, False, 16 << 20))), "rewind", ["rewind can work"]),
        (rejoin(details=replace(DETAILS, checkpoint=False)), "rewind", ["rewind can work"]),
        (rejoin(details=replace(DETAILS, checkpoint=False, archive=True)), "rewind", []),
        (rejoin(details=replace(DETAILS, login=STALE)), "auto", ["ALPHA may receive"]),
        (rejoin(staging=replace(STAGING, link=True)), "auto", ["the folder of ALPHA's data directory"]),
        (rejoin(replace(ALPHA, process=Unseen("ALPHA", "ssh", "no route"))), "auto", ["ALPHA is not a second primary"]),
    ],
)
def test_refused_with_what_to_do(seen: Rejoin, method: str, expected: list[str]) -> None:
    assert refused(seen, method) == expected


@pytest.mark.parametrize(
    ("details", "method"),
    [
        (DETAILS, "clone"),  # 12 s by a clone
        (replace(DETAILS, link=1e7), "rewind"),  # 111 s against 11 s
        (replace(DETAILS, link=1e7, checkpoint=False), "clone"),
        (replace(DETAILS, link=1e7, source=replace(SOURCE, wal_bytes=10**9)), "clone"),  # 201 s against 101 s
        (replace(DETAILS, link=Unseen("ALPHA", "psql", "no password")), "clone"),
    ],
)
def test_a_rewind_is_chosen_only_where_it_saves_much(details: Details, method: str) -> None:
    assert choose(rejoin(details=details)).method == method


def test_a_rewind_is_chosen_where_a_clone_would_not_keep_the_place_of_the_wal() -> None:
    linked = rejoin(staging=replace(STAGING, wal_link=True))
    assert choose(linked).method == "rewind"
    (told,) = (check for check in preconditions(linked, "clone") if check.name == "clone can work")
    assert (told.status, "move it out again" in told.hint) == ("warning", True)


def test_where_nothing_has_to_be_rewound_pg_rewind_only_sees_it() -> None:
    assert choose(rejoin(replace(ALPHA, files=CLEAN), details=NOTHING)).method == "rewind"
    assert choose(rejoin(details=NOTHING)).method == "clone"  # it was killed: its last records may be missing on the disk


def test_an_archive_is_used_by_pg_rewind() -> None:
    steps = plan(rejoin(details=replace(DETAILS, archive=True)), "rewind").changes
    assert any(isinstance(step.action, Rewind) and "--restore-target-wal" in step.command for step in steps)
    assert not any("--restore-target-wal" in step.command for step in plan(rejoin(), "rewind").changes)
    assert any(isinstance(step.action, Clone) and "passfile=" in step.command for step in plan(rejoin()).changes)


def test_what_is_prepared_is_said_where_it_can_still_be_committed_and_where_it_is_lost() -> None:
    waiting = rejoin(details=replace(DETAILS, source=replace(SOURCE, prepared={"700": "tx1", "5": "tx0"})))
    (told,) = (check for check in preconditions(waiting) if "never received" in check.name)
    assert (told.status, "committed on ALPHA only: tx1" in told.observed) == ("warning", True)
    assert "COMMIT PREPARED" in told.hint
    assert next(step.action for step in plan(waiting).changes if isinstance(step.action, Save)).known == ("tx1", "tx0")
    again = parse(json.dumps(asdict(replace(SAVED, definitions=("pg_authid of all databases",), prepared=("tx2",)))))
    notes = Salvaged("f", again).table().notes
    assert notes[-1].endswith("tx2")
    assert "pg_authid" in notes[-2]
    old = {name: value for name, value in asdict(SAVED).items() if name not in ("definitions", "prepared")}
    assert parse(json.dumps(old)) == SAVED  # written by an earlier version


def test_own_settings_stay_and_those_of_another_role_go() -> None:
    text = "work_mem = '8MB'\nsynchronous_standby_names = 'beta'\nprimary_conninfo = 'host=old'\nrecovery_target_time = 'x'\n"
    found = automatic(text, Follow("host=a passfile='/a b'", "beta_slot", "7", 2)).splitlines()
    assert found == ["work_mem = '8MB'", "primary_conninfo = 'host=a passfile=''/a b'''", "primary_slot_name = 'beta_slot'"]


def test_names_of_tables_and_columns_are_quoted() -> None:
    query = rows_query("public", 'odd"; DROP', ["i d"], [7, 8])
    assert '"public"."odd""; DROP" AS t' in query
    assert """'i d', t."i d\"""" in query
    assert "'{7,8}'::xid[]" in query
