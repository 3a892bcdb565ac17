"""The recovery drill: what it says of a backup that restores and of one that does not, and that it leaves nothing behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest
from pairs import reconfigured
from tests_support import make, passed, step, up

from aya_lib import lab as labs
from aya_lib.backup.look import folder
from aya_lib.node.node import open_nodes
from aya_lib.node.unseen import Unseen
from aya_lib.operations import recovery_drill
from aya_lib.operations.recovery_drill import history, judge
from aya_lib.operations.recovery_drill.history import Drill
from aya_lib.operations.recovery_drill.look import Found, Request
from aya_lib.picture import Picture
from aya_lib.show import Note
from aya_lib.site import Site

WELL = Drill("2026-01-31T03:00:00+00:00", "b", "name m", False, {"put together": 2.0, "recover": 1.0}, 100, 3, 33, found=(10, 10))
NOT = Unseen("BETA", "look", "no answer")


def found(site: Site, past: tuple[Drill, ...] = (), present: int = 200) -> Found:
    return Found(open_nodes(site), Request(), NOT, NOT, NOT, past, present)


@pytest.mark.parametrize(
    ("drill", "statuses"),
    [
        (WELL, ["passed", "passed", "passed", "passed"]),
        (replace(WELL, fault="WAL ends"), ["failed", "failed", "passed", "passed"]),
        (replace(WELL, differing=("a: 3 rows at the mark, 2 restored",)), ["passed", "failed", "passed", "passed"]),
        (replace(WELL, unsaid="locked", tables=0), ["passed", "warning", "passed", "passed"]),
        (replace(WELL, tables=0), ["passed", "failed", "passed", "passed"]),
        (replace(WELL, found=(7, 10)), ["passed", "passed", "warning", "passed"]),
        (NOT, ["unknown"] * 4),
    ],
)
def test_what_is_said_of_a_drill(lab_site: Site, drill: Drill, statuses: list[str]) -> None:
    assert [check.status for check in judge.drilled(found(lab_site), drill)] == statuses


def test_what_an_earlier_run_found_is_never_this_ones(lab_site: Site) -> None:
    assert {check.status for check in judge.drilled(found(lab_site, (WELL,)), WELL)} == {"unknown"}


def test_what_cannot_be_seen_is_never_drilled(lab_site: Site) -> None:
    assert {check.status for check in recovery_drill.preconditions(found(lab_site))} == {"unknown"}
    assert not recovery_drill.plan(found(lab_site))


def test_the_forecast_grows_with_the_bytes_and_never_shrinks(lab_site: Site) -> None:
    assert judge.forecast(found(lab_site), WELL) == 6.0
    assert judge.forecast(found(lab_site, present=10), WELL) == 3.0
    assert judge.forecast(found(lab_site), replace(WELL, bytes=0)) is None


def test_the_history_is_drawn_without_what_failed(lab_site: Site) -> None:
    drawn = recovery_drill.plot(found(lab_site, (WELL, replace(WELL, fault="x"))), replace(WELL, light=True))
    assert isinstance(drawn, Picture)
    assert "2 drills" in drawn.caption
    assert isinstance(recovery_drill.plot(found(lab_site), replace(WELL, fault="x")), Note)


def test_a_line_that_a_kill_cut_off_costs_itself_only() -> None:
    assert history.parse('\n{"at": "2026\n\n[]\n') == ()


@pytest.fixture(scope="module")
def keys(place: Path) -> tuple[Path, Path]:
    """The file of the private key that opens the copies, and one of another."""
    files = place / "right.key", place / "wrong.key"
    for file in files:
        file.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    return files


@pytest.fixture(scope="module")
def site(place: Path, keys: tuple[Path, Path]) -> Iterator[Site]:
    """A pair with one backup, and an encrypted copy of it at another place."""
    (place / "vault").mkdir()
    public = str(pyrage.x25519.Identity.from_str(keys[0].read_text().strip()).to_public())

    def change(config: dict[str, Any]) -> None:
        for node in config["nodes"].values():
            node.pop("embedding", None)
        config["backup"] |= {"copies": [{"name": "vault", "path": str(place / "vault")}], "recipients": [public]}

    made = reconfigured(make(place, "drilled"), change)
    try:
        up(made)
        assert passed(step("backup", site=made.name)).check("copy at vault")["status"] == "passed"
        yield made
    finally:
        labs.delete(made)


def left(site: Site) -> list[str]:
    return sorted(path.name for path in folder(site).iterdir())


def test_a_whole_drill_restores_compares_loads_the_dump_and_leaves_its_result_alone(site: Site) -> None:
    before = left(site)
    done = passed(step("recovery_drill", site=site.name))
    assert done.check("contents are equal")["observed"] == "3 tables equal"
    assert done.check("searches find")["observed"] == "10 of 10"
    (drill,) = history.past(open_nodes(site)["BETA"])
    assert set(drill.phases) >= {"read every file", "put together", "recover", "compare", "search", "load the dump"}
    assert left(site) == sorted([*before, history.FILE])


def test_a_dry_run_copies_nothing_and_calls_nothing_restored(site: Site) -> None:
    past = history.past(open_nodes(site)["BETA"])
    done = step("recovery_drill", site=site.name, dry_run=True)
    assert done.check("it was restored")["status"] == "planned"
    assert history.past(open_nodes(site)["BETA"]) == past


def test_a_moment_that_is_no_mark_is_restored_and_not_called_compared(site: Site) -> None:
    done = passed(step("recovery_drill", site=site.name, to="latest", light=True))
    assert done.check("contents are equal")["status"] == "warning"


def test_the_copy_at_another_place_is_drilled_and_only_its_key_opens_it(site: Site, keys: tuple[Path, Path]) -> None:
    before = left(site)
    done = passed(step("recovery_drill", site=site.name, place="vault", identity=str(keys[0]), light=True))
    assert done.check("contents are equal")["observed"] == "3 tables equal"
    for identity, word in ((str(keys[1]), "cannot be decrypted"), ("", "is encrypted")):
        refused = step("recovery_drill", site=site.name, place="vault", identity=identity, light=True)
        assert refused.exit_code != 0
        assert word in str(refused.error)
    assert left(site) == sorted({*before, history.FILE})
    assert keys[0].read_text().strip() not in (folder(site) / history.FILE).read_text()


@pytest.mark.parametrize(
    ("asked", "word"), [({"place": "nowhere"}, "no place 'nowhere'"), ({"identity": "k"}, "no place is named")]
)
def test_a_place_that_is_none_is_one_line(site: Site, asked: dict[str, str], word: str) -> None:
    done = step("recovery_drill", site=site.name, **asked)
    assert done.exit_code == 2
    assert word in str(done.error)


@pytest.mark.parametrize(("to", "word"), [("2031-01-01T00:00:00Z", "in the future"), ("yesterday", "allowed are a time")])
def test_a_moment_that_cannot_be_restored_is_one_line_with_the_window(site: Site, to: str, word: str) -> None:
    done = step("recovery_drill", site=site.name, to=to)
    assert done.exit_code == 2
    assert word in str(done.error)


def test_a_dump_that_was_changed_fails_the_drill_and_the_failure_is_kept(site: Site) -> None:
    dump = next((folder(site) / "backups").glob("*/dumps/aya_rag.dump"))
    before = dump.read_bytes()
    dump.write_bytes(before[:-100] + b"x" + before[-99:])
    try:
        done = step("recovery_drill", site=site.name)
        assert done.exit_code == 1
        assert "aya_rag.dump" in history.past(open_nodes(site)["BETA"])[-1].fault
        assert "drill" not in left(site)
    finally:
        dump.write_bytes(before)


def test_a_copy_that_a_killed_run_left_is_removed_by_the_next(site: Site) -> None:
    there = folder(site) / "drill"
    node = open_nodes(site)["BETA"]
    node.shell.run(["mkdir", str(there)], account=node.account).checked()
    stranger = step("recovery_drill", site=site.name, light=True)
    assert stranger.error is None or "not a folder of ours" in str(stranger.error)
    subprocess.run(["rm", "-rf", str(there)], check=True)
    node.shell.run(
        ["sh", "-c", 'mkdir -p "$1/data" && touch "$1/.aya-scratch" "$1/data/half"', "sh", str(there)], account=node.account
    )
    passed(step("recovery_drill", site=site.name, light=True))
    assert "drill" not in left(site)
