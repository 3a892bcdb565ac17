"""The runner: every way in which a run can end, its exit code, its record, and the notebook that is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from tests_support import ended, fill, record_cell

from aya_lib import settings
from aya_lib.errors import AyaError, Locked
from aya_lib.node import wait
from aya_lib.runbook import runs
from aya_lib.runbook.kernel import Ahead
from aya_lib.runbook.lock import site_lock
from aya_lib.runbook.run import _Stop, run
from aya_lib.site import Site

CELLS = {
    "good": [record_cell("passed")],
    "bad": [record_cell("failed"), "raise SystemError('the last word')"],
    "silent": ["1 + 1"],
    "early": ["import sys; sys.exit(0)", record_cell("passed")],
    "dead": ["import os; os.kill(os.getpid(), 9)"],
    "dead after": [record_cell("passed"), "import os; os.kill(os.getpid(), 9)"],
    "raised after": [record_cell("passed"), "raise type('the end', (Exception,), {})('of it')"],
    "slow": [
        "import pathlib, time",
        "marker = pathlib.Path(mark)",
        "try:\n    marker.touch()\n    time.sleep(60)\nfinally:\n    marker.unlink()",
    ],
    "changing": [record_cell("passed")],
}
CELLS["brief"] = CELLS["slow"]


@pytest.fixture(scope="module", autouse=True)
def books(tmp_path_factory: pytest.TempPathFactory, lab_site: Site) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("books")
    for name, cells in CELLS.items():
        parameters = nbformat.v4.new_code_cell(
            'site: str = "lab"\nmark: str = ""\ndry_run: bool = False', metadata={"tags": ["parameters"]}
        )
        code = [nbformat.v4.new_code_cell(cell) for cell in cells]
        metadata = {"aya": {"changes_site": name in ("changing", "slow"), "limit_s": 6 if name == "brief" else 60}}
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A title"), parameters, *code], metadata=metadata)
        nbformat.write(book, folder / f"{name}.ipynb")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AYA_NOTEBOOKS", str(folder))
        yield folder


def test_a_good_run_keeps_notebook_and_record_and_shows_the_verdict_first() -> None:
    steps: list[str] = []
    result = run("good", {}, lambda step: steps.append(step["kind"]))
    assert (result.exit_code, result.record["outcome"]) == (0, "passed")
    assert steps == ["check"]
    assert ended(result) == "> **good: the line**"
    assert json.loads(result.notebook.with_suffix(".json").read_text()) == result.record
    assert not list(result.notebook.parent.glob("*.reserve"))


@pytest.mark.parametrize(
    ("name", "outcome", "error"),
    [
        ("bad", "failed", "SystemError: the last word"),
        ("silent", "failed", "the notebook ended without a verdict"),
        ("early", "failed", "the notebook ended without a verdict"),
        ("dead", "died", "the kernel died"),
    ],
)
def test_a_run_that_does_not_end_well_says_how(name: str, outcome: str, error: str) -> None:
    result = run(name, {})
    assert (result.exit_code, result.record["outcome"]) == (1, outcome)
    assert result.record["error"] == error
    assert result.record["ended"]


@pytest.mark.parametrize(("name", "code", "error"), [("dead after", 1, "the kernel died"), ("raised after", 0, "the end: of it")])
def test_after_a_good_verdict_only_a_runner_that_failed_makes_the_run_fail(name: str, code: int, error: str) -> None:
    """Whatever the words of an error are: it is not they that decide."""
    result = run(name, {})
    assert (result.exit_code, result.record["outcome"], result.record["error"]) == (code, "passed", error)


def test_a_run_that_takes_too_long_is_interrupted_and_cleans_up(tmp_path: Path) -> None:
    result = run("brief", {"mark": str(tmp_path / "mark")})
    assert (result.exit_code, result.record["outcome"]) == (1, "died")
    assert result.record["error"] == "did not end within 6 s"
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_interrupts_the_kernel_and_keeps_what_there_is(tmp_path: Path, number: signal.Signals, code: int) -> None:
    mark = tmp_path / "mark"
    process = subprocess.Popen(
        [sys.executable, "-m", "aya_lib", "run", "slow", "-p", f"mark={mark}", "--json"], stdout=subprocess.PIPE
    )
    wait.until(mark.exists, bool, node="here", what="the cell runs", deadline_s=30)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    record = json.loads(out)
    assert process.returncode == code
    assert (record["outcome"], record["exit_code"]) == ("interrupted", code)
    assert not mark.exists()
    cells = nbformat.read(record["notebook"], as_version=4).cells
    states = {cell.metadata.get("papermill", {}).get("status", "completed") for cell in cells}
    assert states <= {"completed", "failed", "not run", "interrupted"}
    with site_lock("lab", "the lock is free again"):
        pass


def test_a_kernel_that_was_begun_ahead_and_died_is_begun_anew(books: Path, tmp_path: Path) -> None:
    from aya_lib.runbook import engine

    engine.Kernel.ahead = Ahead(books / "silent.ipynb")
    engine.Kernel.ahead.process.kill()
    engine.Kernel.ahead.process.wait()
    assert engine.execute(books / "silent.ipynb", tmp_path / "silent.ipynb", {}).kind == "ran"


def test_a_kernel_that_nobody_started_ends_with_its_runner(books: Path) -> None:
    ahead = Ahead(books / "silent.ipynb")
    ahead.drop()
    assert ahead.process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_the_time_limit_does_not_overrule_a_signal_that_came_first(number: signal.Signals, code: int) -> None:
    with _Stop(0.2) as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        time.sleep(0.4)  # what was interrupted cleans up, and the limit passes
    assert (stop.outcome, stop.exit_code, stop.reason) == ("interrupted", code, f"interrupted by {number.name}")


def test_two_runs_that_change_a_site_never_run_at_once() -> None:
    with site_lock("lab", "failover"):
        with pytest.raises(Locked, match=r"being changed by failover, PID \d+"):
            run("changing", {})
        assert run("changing", {"dry_run": True}).exit_code == 0  # needs no lock
    assert run("changing", {}).exit_code == 0


def test_a_full_disk_is_one_clear_line_and_the_record_has_its_end(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYA_RUNS", str(small_disk))
    filler = f"open({str(small_disk / 'filler')!r}, 'wb').write(b'x' * 10_000_000)"
    content = nbformat.read(settings.notebooks() / "good.ipynb", as_version=4)
    content.cells[-1].source = f"import contextlib\nwith contextlib.suppress(OSError):\n    {filler}\nprint('x' * 300_000)"
    nbformat.write(content, settings.notebooks() / "filling.ipynb")
    result = run("filling", {})
    assert result.exit_code == 1
    assert result.record["outcome"] == "failed"
    assert "No space left on device" in result.record["error"]
    assert json.loads(result.notebook.with_suffix(".json").read_text())["ended"]
    fill(small_disk)
    monkeypatch.setenv("AYA_RUNS", str(small_disk / "more"))
    with pytest.raises(AyaError, match=r"no run record can be written.*No space left"):
        run("good", {})


def test_runs_are_listed_and_pruned_but_the_newest_and_the_running_stay() -> None:
    found = runs.kept(runbook="good").runs
    first = found[0]
    old = first.record.with_name("20200101T000000Z.json")
    content = json.loads(first.record.read_text()) | {"started": "2020-01-01T00:00:00.000Z"}
    old.write_text(json.dumps(content))
    running = old.with_name("20200102T000000Z.json")
    running.write_text(json.dumps(content | {"outcome": "running", "pid": os.getpid(), "started": "2020-01-02T00:00:00.000Z"}))
    lost = old.with_name("20200103T000000Z.json")
    lost.write_text(json.dumps(content | {"outcome": "running", "pid": 2**22 + 1, "started": "2020-01-03T00:00:00.000Z"}))
    listed = runs.kept(runbook="good")
    assert {run.record: run.outcome for run in listed.runs}[lost] == "died"
    left = runs.prune(listed, "30d")
    assert {run.record for run in set(listed.runs) - set(left.runs)} == {old, lost}
    assert running.exists()
    assert first.record.exists()
    running.unlink()


def test_the_record_is_written_at_every_step_so_that_a_killed_run_leaves_evidence(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process = subprocess.Popen([sys.executable, "-m", "aya_lib", "run", "slow", "-p", f"mark={mark}"], stdout=subprocess.DEVNULL)
    wait.until(mark.exists, bool, node="here", what="the cell runs", deadline_s=30)
    process.kill()
    process.wait()
    newest = runs.kept(runbook="slow").runs[0]
    assert newest.outcome == "died"
    with site_lock("lab", "the lock went with the process"):
        pass
