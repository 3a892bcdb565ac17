"""The command line: exit codes, one line for what is wrong, one JSON document and nothing else."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from tests_support import aya, make

from aya_lib import settings
from aya_lib.cli import printable
from aya_lib.errors import AyaError, Unreachable
from aya_lib.lab.faults import FAULTS, inject
from aya_lib.node.node import open_nodes
from aya_lib.runbook.lock import site_lock
from aya_lib.runbook.record import Record, heading
from aya_lib.site import LAB_MARKER, Site


def process(code: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *code, *words], capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["run", "restor"], 2, "aya: unknown runbook 'restor'; did you mean 'restore'? There are "),
        (["run", "restore", "--site", "labb"], 2, "aya: unknown site 'labb'"),
        (["run", "restore", "-p", "deadline=3"], 2, "did you mean 'deadline_s'?"),
        (["run", "restore", "-p", "deadline_s=soon"], 2, "found 'soon' (str), allowed is a whole number"),
        (["run", "restore", "-f", "/nowhere.yaml"], 2, "/nowhere.yaml: cannot be read"),
        (["run", "start_here", "--dry-run"], 2, "start_here takes no --dry-run"),
        (["status", "--site", "labb"], 2, "unknown site 'labb'"),
        (["lab", "break", "nothing"], 2, "unknown fault 'nothing'"),
        (["lab", "psql", "gamma"], 2, "unknown node 'gamma'. Allowed are alpha, beta, air"),
        (["lab", "status", "--site", "model"], 1, "the lab model is not there. Make it: aya lab up --site model"),
        (["status", "--site", "model"], 1, "the lab model is not there. Make it: aya lab up --site model"),
        (["run", "restore", "--site", "model"], 1, "the lab model is not there. Make it: aya lab up --site model"),
        (["lab", "new", "lab"], 2, "there is a site lab already"),
        (["runs", "--site", "nope"], 2, "unknown site 'nope'. Known sites: "),
        (["runs", "--runbook", "restor"], 2, "unknown runbook 'restor'; did you mean 'restore'?"),
        (["runs", "--site", "model"], 1, "no run on model is kept in "),
        (["runs", "--prune", "soon"], 2, "--prune soon: allowed is a number and d, h or m"),
        (["serve", "embedding", "--node", "GAMMA"], 2, "asks for no embedding service on 'GAMMA'"),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["run", "restore", "--frob"], 2, "No such option"),
    ],
)
def test_what_is_wrong_is_one_line_on_stderr(lab_site: Site, words: list[str], code: int, line: str) -> None:
    done = aya(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert line in done.stderr
    assert done.stderr.startswith("aya: ")
    assert len(done.stderr.splitlines()) == 1


def test_with_json_an_error_is_a_document_too(lab_site: Site) -> None:
    done = aya("run", "restor", "--json")
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert said["exit_code"] == 2
    assert said["error"]["type"] == "UsageError"


def test_a_runs_folder_that_cannot_be_written_is_one_line_or_document(lab_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYA_RUNS", "/proc/nowhere")
    for words in (["run", "restore", "--json"], ["run", "start_here", "--json"], ["runs", "--json"]):
        done = aya(*words)
        assert done.returncode == json.loads(done.stdout)["exit_code"] == 1
        assert "/proc/nowhere" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_what_the_terminal_cannot_write_is_written_plainly_and_a_closed_pipe_is_no_error() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shell = f"{sys.executable} -m aya_lib params; {sys.executable} -m aya_lib params | head -n 1; echo ${{PIPESTATUS[@]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=environment)
    assert "restore" in done.stdout
    assert done.stdout.splitlines()[-1] in ("0 0", "141 0")
    assert done.stderr == ""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with patch.object(sys, "stdout", out):
        printable.install()
        print("✓ passed · 名", flush=True)
        assert printable.only_ascii()
    assert out.buffer.getvalue() == b"+ passed . ?\n"


def test_tables_are_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, aya("params", "restore").stdout.splitlines())) <= 60


def test_a_shell_completes_the_names_of_runbooks_and_sites(lab_site: Site) -> None:
    for words, found in (("aya run fail", "failover"), ("aya status --site mode", "model")):
        asked = {"_AYA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        program = [str(Path(sys.executable).with_name("aya"))]
        assert subprocess.run(program, capture_output=True, text=True, env={**os.environ, **asked}).stdout.split() == [found]


def test_status_as_json_is_one_document_and_the_exit_code_tells(lab: Site) -> None:
    done = aya("status", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["status"], said["site"]) == (0, "passed", "lab")
    assert set(said) == {"schema", "application", "site", "at", "status", "checks", "nodes"}
    assert set(said["nodes"]) == {"ALPHA", "BETA", "AIR"}


def test_status_of_a_site_that_is_down_fails_and_says_first_what_is_half_done(place: Path) -> None:
    site = make(place, "cold")
    site.root.mkdir()
    (site.root / LAB_MARKER).touch()
    record = Record.begin(settings.runs() / "cold" / "failover" / "r.json", **heading("failover", "cold", {"site": "cold"}))
    record.add("change", node="ALPHA", title="Stop PostgreSQL", state="started")
    record.end("interrupted")
    done = aya("status", "--site", "cold")
    assert done.returncode == 1
    assert "✗ failed" in done.stdout
    assert done.stdout.startswith("✗ Not finished\n")
    assert "Go on: aya run failover --site cold" in done.stdout[: done.stdout.index("The site as seen")]


def test_a_run_prints_a_line_per_check_and_the_notebook_last(lab: Site) -> None:
    done = aya("run", "verify_replication", "-p", "rows=3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("✓ marked rows arrive: 3 of 3") and "(expected: all within 2 s)" in line for line in lines)
    assert Path(lines[-1]).is_file()
    assert re.match(r"✓ verify_replication on lab: (\d+) of \1 checks passed", lines[-2])


def test_a_run_as_json_is_its_record_and_progress_goes_to_stderr(lab: Site) -> None:
    done = aya("run", "start_here", "--json")
    said = json.loads(done.stdout)
    assert (said["outcome"], said["exit_code"], said["schema"]) == ("passed", 0, 1)
    assert "✓ ALPHA is the primary" in done.stderr
    assert json.loads(aya("runs", "--json").stdout)["runs"][0]["runbook"] == "start_here"


def test_psql_and_env_reach_the_nodes(lab: Site) -> None:
    done = process(["-m", "aya_lib"], "lab", "psql", "beta", "-Atc", "SELECT pg_is_in_recovery()")  # psql takes its place
    assert done.stdout == "t\n"
    words = ["alpha", "-d", "postgres", "--site=lab", "-Atc", "SELECT current_database()"]
    assert process(["-m", "aya_lib"], "lab", "psql", *words).stdout == "postgres\n"
    assert "psql is the PostgreSQL" in process(["-m", "aya_lib"], "lab", "psql", "alpha", "--help").stdout
    assert "aya lab psql [OPTIONS] {node}" in aya("lab", "psql", "-h").stdout
    lines = aya("lab", "env").stdout
    shell = f'{lines}psql service=alpha -Atc "SHOW default_transaction_read_only" && pg_dump --version'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.stdout.startswith("off\npg_dump (PostgreSQL) 18"), done.stderr


@pytest.mark.parametrize(
    "words", ["", "run", "status", "runs", "params", "lab", "lab up", "lab break", "serve", "air", "air retry"]
)
def test_help_is_there_for_everything(words: str) -> None:
    done = aya(*words.split(), "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_the_parameters_and_the_faults_are_listed() -> None:
    assert "deadline_s" in aya("params", "restore").stdout
    assert "verify_replication" in aya("params").stdout
    listed = aya("lab", "break").stdout
    assert all(name in listed for name in FAULTS)


# What a process must not have loaded: any command, one that only reads notebooks, a run until its notebook starts.
NEVER = {"torch", "mlx", "matplotlib", "IPython", "fastapi", "numpy", "pyarrow", "rfc3987_syntax", "psycopg", "pgvector"}
STARTING = NEVER | {"papermill", "nbformat", "nbclient", "jsonschema", "jupyter_client", "zmq", "requests", "psutil"}
READING = STARTING | {"aya_lib.site", "aya_lib.node.node", "aya_lib.runbook.run", "aya_lib.runbook.book"}


def loaded(*words: str) -> tuple[int, set[str]]:
    """The exit code of ``aya`` and the modules that its process had loaded when it ended."""
    code = "import sys; from aya_lib.cli.main import main\ntry: main()\nfinally: print('loaded', *sys.modules, file=sys.stderr)"
    done = process(["-c", code], *words)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("loaded ")]
    return done.returncode, set(line.split())


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["lab", "--help"], ["params"], ["params", "restore"]])
def test_what_only_reads_loads_neither_the_site_nor_what_runs_notebooks(words: list[str]) -> None:
    code, modules = loaded(*words)
    assert code == 0
    assert modules & READING == set()


def test_a_run_loads_what_runs_notebooks_only_when_one_starts(lab_site: Site) -> None:
    with site_lock("lab", "the test"):  # the last thing that is looked at before
        code, modules = loaded("run", "restore")
    assert code == 3
    assert {"aya_lib.site", "filelock"} <= modules
    assert modules & STARTING == set()


def test_a_whole_run_loads_no_driver_no_grammar_and_no_numbers_here(lab: Site) -> None:
    code, modules = loaded("run", "start_here", "--quiet")
    assert code == 0
    assert "papermill" in modules
    assert modules & NEVER == set()


def test_an_error_is_one_line_with_its_hint() -> None:
    error = AyaError("something\n  is wrong", hint="do  this")
    assert str(error) == "something is wrong. do this"
    assert str(Unreachable("ALPHA", "ssh", "no\nroute")) == "ALPHA is unreachable: ssh: no route"
    assert error._render_traceback_() == ["AyaError: something is wrong. do this"]


def test_a_fault_needs_a_lab(place: Path) -> None:
    site = make(place, "no-lab")
    with pytest.raises(AyaError, match="the lab no-lab is not there"):
        inject(site, "beta-down")
    assert open_nodes(site)["BETA"].supervisor.state("postgresql").status == "stopped"
