"""The record: there at every step, and its end fits also on a full disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_support import fill

from aya_lib.errors import AyaError
from aya_lib.runbook.record import Record, alive, heading


def test_the_end_of_a_record_fits_on_a_full_disk(small_disk: Path) -> None:
    record = Record.begin(small_disk / "r.json", runbook="x")
    fill(small_disk)
    record.add("check", name="a" * 20_000)
    fill(small_disk)
    with pytest.raises(AyaError, match=r"run record .* cannot be written: No space left on device\. Make room there"):
        record.add("check", name="b" * 40_000)
    assert json.loads(record.path.read_text())["steps"][0]["kind"] == "check"


def test_on_a_full_disk_no_run_begins(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(AyaError, match=r"no run record can be written.*No space left on device.*AYA_RUNS"):
        Record.begin(small_disk / "r.json")
    assert not list(small_disk.glob("r.*"))


def test_every_step_is_on_disk_at_once_and_whole(tmp_path: Path) -> None:
    record = Record.begin(tmp_path / "r.json", runbook="x")
    for number in range(3):
        record.add("look", title=str(number))
        assert len(json.loads(record.path.read_text())["steps"]) == number + 1
    record.end("passed")
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_what_is_no_record_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(AyaError, match=r"r\.json is not a run record"):
        Record.load(tmp_path / "r.json")


def test_two_runs_of_the_same_second_have_a_record_each(tmp_path: Path) -> None:
    begun = [Record.begin(tmp_path / "20260101T000000Z.json", runbook="x").path.name for _ in range(3)]
    assert begun == ["20260101T000000Z.json", "20260101T000000Z-2.json", "20260101T000000Z-3.json"]


def test_a_run_is_alive_only_as_the_process_that_it_was() -> None:
    this = heading("x", "lab", {})
    assert alive(this)
    assert not alive(this | {"process_started": this["process_started"] - 60})  # the PID went to another one
    assert not alive(this | {"pid": 2**22 + 1})
    assert alive(this | {"pid": 2**22 + 1, "host": "another"})  # nothing is known of it here
