"""The six verbs on a real lab: the gate, the dry run, the approval, and plain papermill."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill
import psutil
import pytest
import yaml
from tests_support import fill, step

from aya_lib import settings
from aya_lib.check import Check
from aya_lib.errors import (
    ApprovalMissing,
    AyaError,
    ChangeFailed,
    Interrupted,
    ParameterError,
    RequirementFailed,
    UsageError,
    VerdictFailed,
)
from aya_lib.lab import access
from aya_lib.lab.faults import inject
from aya_lib.node.node import Node, open_nodes
from aya_lib.plan.actions import Nothing, Service, Sql
from aya_lib.plan.change import Change, Plan
from aya_lib.runbook import parameters
from aya_lib.runbook.book import Runbook
from aya_lib.runbook.run import run
from aya_lib.site import Site

GOOD = Check("a", "passed", "x", "x")


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AYA_RECORD", str(tmp_path / "record.json"))
    return tmp_path / "record.json"


def book(site: str = "lab", **values: Any) -> Runbook:
    return Runbook("restore", {"site": site, **values})


def test_every_verb_is_in_the_record_at_once(lab_site: Site, record: Path) -> None:
    runbook = book()
    runbook.look(lambda nodes: sorted(nodes))
    runbook.check(GOOD)
    assert [step["kind"] for step in json.loads(record.read_text())["steps"]] == ["look", "check"]
    runbook.verdict()
    said = json.loads(record.read_text())
    assert (said["outcome"], said["verdict"]["line"]) == ("passed", "restore on lab: 1 of 1 checks passed")


@pytest.mark.parametrize("status", ["failed", "unknown"])
def test_the_gate_stops_on_failed_and_on_unknown(lab_site: Site, record: Path, status: Any) -> None:
    runbook = book()
    with pytest.raises(RequirementFailed, match=r"Nothing was changed, because 1 of 2.*b: y\. do this"):
        runbook.require(GOOD, Check("b", status, "x", "y", "do this"))
    assert json.loads(record.read_text())["verdict"]["status"] == status
    with pytest.raises(UsageError, match="nothing was done: 1 of 2 requirements do not hold: b: y"):
        runbook.apply(Plan("p", (Change("ALPHA", "never", Nothing(), ""),)))


def test_the_verdict_rests_on_the_last_check_of_a_name_and_not_on_what_is_optional(lab_site: Site) -> None:
    runbook = book()
    runbook.check(Check("a", "failed", "x", "y"), Check("laptop", "unknown", "x", "y", required=False))
    runbook.check(GOOD)
    runbook.verdict()
    runbook.check(Check("a", "unknown", "x", "y"))
    with pytest.raises(VerdictFailed, match="1 unknown: a"):
        runbook.verdict()


def test_a_runbook_without_a_check_is_not_passed(lab_site: Site) -> None:
    with pytest.raises(VerdictFailed):
        book().verdict()


def test_a_harmful_change_of_a_production_site_needs_a_name(place: Path, lab_site: Site, record: Path) -> None:
    content = yaml.safe_load((settings.parameters() / "lab" / "site.yaml").read_text())
    path = settings.parameters() / "like-production" / "site.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        yaml.safe_dump(content | {"name": "like-production", "production": True, "directory": str(place / "like-production")})
    )
    plan = Plan("p", (Change("ALPHA", "stop it", Service("stop", "embedding"), "stop", interrupts=True),))
    with pytest.raises(ApprovalMissing, match=r"stop it.*--approved-by NAME"):
        book("like-production").apply(plan)
    said = json.loads(record.read_text())
    assert (said["outcome"], said["exit_code"]) == ("refused", 4)
    record.unlink()
    book("like-production", approved_by="the one on call").apply(plan)
    assert json.loads(record.read_text())["approved_by"] == "the one on call"


def test_what_was_done_is_undone_when_a_later_change_fails_and_the_first_error_is_told(bare: Site, record: Path) -> None:
    changes = (
        Change("BETA", "stop BETA", Service("stop", "postgresql"), "stop", undo=Service("start", "postgresql")),
        Change("AIR", "impossible", Sql("SELECT no_such_function()"), "SELECT"),
    )
    runbook = book(bare.name)
    with pytest.raises(ChangeFailed, match=r"'impossible' failed: .*no_such_function.*'stop BETA' was undone"):
        runbook.apply(Plan("p", changes))
    assert runbook.nodes["BETA"].supervisor.state("postgresql").status == "running"
    states = [step["state"] for step in json.loads(record.read_text())["steps"] if step["kind"] == "change"]
    assert states == ["started", "done", "started", "failed", "undone"]
    with pytest.raises(UsageError, match="is stale, it was carried out already"):
        runbook.apply(Plan("p", changes))


def test_a_dry_run_shows_the_plan_and_changes_nothing(bare: Site) -> None:
    inject(bare, "beta-down")
    result = step("restore", site=bare.name, dry_run=True)
    kinds = [step["kind"] for step in result.record["steps"]]
    (first, _) = (step for step in result.record["steps"] if step["kind"] == "plan")
    assert (result.error, result.record["outcome"]) == (None, "planned")
    assert "change" not in kinds
    assert [change["node"] for change in first["changes"]] == ["ALPHA", "BETA"]
    supervisor = open_nodes(bare)["BETA"].supervisor
    assert supervisor.state("postgresql").status == "stopped"
    supervisor.start("postgresql")


def test_a_dry_run_of_a_probe_writes_nothing(bare: Site) -> None:
    result = step("verify_replication", site=bare.name, dry_run=True)
    planned = {step["name"] for step in result.record["steps"] if step["kind"] == "check" and step["status"] == "planned"}
    assert result.record["outcome"] == "planned", result.error
    assert planned == {"marked rows arrive", "a write on the standby is refused", "aya_user can write", "aya_user can search"}


@pytest.mark.parametrize(("name", "value"), [("dry_run", "perhaps"), ("deadline_s", 1.5), ("site", 7)])
def test_a_wrong_type_is_refused_by_the_runbook_itself(lab_site: Site, name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"'{name}': found"):
        Runbook("restore", {name: value})


def test_plain_papermill_gets_the_same_refusal_in_one_line(tmp_path: Path, lab_site: Site) -> None:
    out, source = tmp_path / "out.ipynb", settings.home() / "notebooks" / "verify_replication.ipynb"
    with pytest.raises(papermill.PapermillExecutionError):
        papermill.execute_notebook(str(source), str(out), {"rowz": 3}, progress_bar=False)
    outputs = [output for cell in json.loads(out.read_text())["cells"] for output in cell.get("outputs", [])]
    (line,) = ["".join(output["traceback"]) for output in outputs if output["output_type"] == "error"]
    assert line.startswith("ParameterError: verify_replication has no parameter 'rowz'; did you mean 'rows'?")
    assert "\n" not in line


def test_no_secret_is_in_any_notebook_record_log_or_argument_list(lab: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AYA_RECORD")
    run("verify_replication", {})
    secrets = list(access.passwords(lab).values())
    files = [path for path in settings.runs().rglob("*") if path.is_file()]
    assert any(path.suffix == ".ipynb" for path in files)
    logs = list((lab.root / "log").iterdir())
    assert logs
    for path in [*files, *logs]:
        text = path.read_bytes()
        assert not any(secret.encode() in text for secret in secrets), path
    for process in psutil.process_iter(["cmdline"]):
        assert not any(secret in " ".join(process.info["cmdline"] or []) for secret in secrets)


@dataclass(frozen=True)
class Signalled:
    """Signals to this process in the middle of a change, twice: so a shutdown does it, whose runner passes it on."""

    number: signal.Signals

    def run(self, node: Node) -> None:
        for number in (self.number, signal.SIGINT):
            os.kill(os.getpid(), number)

    def command(self, node: Node) -> str:
        return f"kill -{self.number}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_every_signal_in_the_middle_of_a_plan_is_undone_and_recorded(bare: Site, record: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    stop = Change("AIR", "stop AIR", Service("stop", "postgresql"), "stop", undo=Service("start", "postgresql"))
    runbook = book(bare.name, deadline_s=7)
    with pytest.raises(Interrupted) as raised:
        runbook.apply(Plan("p", (stop, Change("AIR", "broken off", Signalled(number), "kill", undo=Nothing()))))
    assert str(raised.value) == (
        f"interrupted by {number.name} in 'broken off' on AIR. 'broken off' was undone; 'stop AIR' was undone."
        f" It goes on where it was: aya run restore --site {bare.name} -p deadline_s=7"
    )
    assert runbook.nodes["AIR"].supervisor.state("postgresql").status == "running"
    assert json.loads(record.read_text())["outcome"] == "interrupted"
    assert signal.getsignal(number) == before


def test_an_interrupted_look_is_one_line_and_a_run_begun_anew_ends_the_one_before(
    bare: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AYA_RECORD")
    values = {
        parameter.name: parameter.default for parameter in parameters.declared(settings.notebooks() / "restore.ipynb").parameters
    }
    names: dict[str, Any] = values | {"site": bare.name}
    first = names["runbook"] = Runbook("restore", names)
    with pytest.raises(Interrupted, match=r"interrupted by SIGTERM in 'look'.*aya run restore"):
        first.look(lambda nodes: os.kill(os.getpid(), signal.SIGTERM))
    second = names["runbook"] = Runbook("restore", names)
    third = Runbook("restore", names)
    outcomes = [json.loads(one.record.path.read_text())["outcome"] for one in (first, second, third)]
    assert outcomes == ["interrupted", "interrupted", "running"]


@dataclass(frozen=True)
class Fill(Nothing):
    disk: Path

    def run(self, node: Node) -> None:
        fill(self.disk)


def test_a_plan_is_brought_to_its_end_where_its_record_has_no_room(
    lab_site: Site, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AYA_RECORD", str(small_disk / "record.json"))
    runbook = book()
    changes = [Change("ALPHA", f"fill it, {number}", Fill(small_disk), "x" * 5000) for number in range(3)]  # one has the reserve
    runbook.apply(Plan("p", tuple(changes)))
    assert runbook.record.content["steps"][-1]["state"] == "done"
    with pytest.raises(AyaError, match=r"the run record .* cannot be written: No space left on device"):
        runbook.check(GOOD)
