"""Units generated from the site: verified by systemd's and macOS's own tools, run by a real shell, planned from half-way."""

from __future__ import annotations

import os
import plistlib
import pwd
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from tests_support import only

from aya_lib.check import worst
from aya_lib.lab import binaries
from aya_lib.node.launchd import parse_disabled
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.systemd import DISABLED, parse_enabled
from aya_lib.operations.autostart import checks, kill, look, plan, preconditions, returned
from aya_lib.operations.autostart.look import Autostart, NodeSeen, Private, ServiceSeen, parse_ls
from aya_lib.operations.autostart.plan import DELETE, REMOVE, SECRETS, delete, put_aside, reload, remove, secrets, write
from aya_lib.operations.autostart.units import HEADER, Home, environment, units
from aya_lib.plan.actions import Script, Service, WriteFile
from aya_lib.plan.change import Change
from aya_lib.site import EmbeddingService, Site

Kind = Literal["systemd", "launchd"]
ACCOUNT = pwd.getpwuid(os.geteuid()).pw_name
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on this machine")


def kept_by(site: Site, kind: Kind, **fields: object) -> Site:
    """The same site, its ALPHA kept by systemd or launchd."""
    config = site.nodes["ALPHA"]
    server = config.postgresql.model_copy(update={"bin_directory": binaries.prefix() / "bin", "account": ACCOUNT, **fields})
    aya = Path(sys.executable).with_name("aya")
    alpha = config.model_copy(update={"supervisor": kind, "postgresql": server, "aya": aya, "embedding": EmbeddingService()})
    return site.model_copy(update={"nodes": {**site.nodes, "ALPHA": alpha}})


def write_units(site: Site, folder: Path) -> list[Path]:
    paths = []
    for unit in units(site, "ALPHA", ACCOUNT):
        path = folder / unit.path.name
        path.write_text(unit.text)
        paths.append(path)
    return paths


def verify(paths: list[Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "verify", "--man=no", *map(str, paths)], capture_output=True, text=True, timeout=60)


@needs_systemd
@pytest.mark.parametrize("data", ["data", "da ta", "100%", 'quo"te', "dollar$HOME", "back\\slash"])
def test_systemd_accepts_the_units_whatever_the_path(lab_site: Site, tmp_path: Path, data: str) -> None:
    paths = write_units(kept_by(lab_site, "systemd", data_directory=tmp_path / data), tmp_path)
    assert {path.name for path in paths} == {
        "postgresql-18.service",
        "aya.embedding-service.service",
        "aya.status.service",
        "aya.status.timer",
    }
    done = verify(paths)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_systemd_accepts_the_daemon_of_a_laptop(lab_site: Site, tmp_path: Path) -> None:
    air = lab_site.nodes["AIR"].model_copy(update={"supervisor": "systemd"})
    site = lab_site.model_copy(update={"nodes": {**lab_site.nodes, "AIR": air}})
    found = {unit.service: unit for unit in units(site, "AIR", "root")}
    assert "serve sync --site lab" in found["sync"].text
    assert "Environment=AYA_NODE=AIR" in found["sync"].text
    paths = [tmp_path / unit.path.name for unit in found.values()]
    for path, unit in zip(paths, found.values(), strict=True):
        path.write_text(unit.text)
    done = verify([path for path in paths if "sync" in path.name or "embedding" in path.name])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize(
    ("was", "becomes"),
    [("Type=exec", "Type=exek"), ("ExecStart=/", "ExecStart=/no/such"), ("[Service]", "[Servant]"), ("Restart=", "Restrat=")],
)
def test_systemd_would_notice_a_wrong_unit(lab_site: Site, tmp_path: Path, was: str, becomes: str) -> None:
    paths = write_units(kept_by(lab_site, "systemd"), tmp_path)
    text = paths[0].read_text()
    assert was in text
    paths[0].write_text(text.replace(was, becomes))
    done = verify(paths)
    assert done.returncode != 0 or done.stderr


@needs_systemd
def test_systemd_accepts_the_drop_in_of_a_disabled_service(lab_site: Site, tmp_path: Path) -> None:
    paths = write_units(kept_by(lab_site, "systemd"), tmp_path)
    drop_in = tmp_path / "postgresql-18.service.d" / "aya-disabled.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(DISABLED)
    assert verify(paths).stderr == ""
    drop_in.write_text(DISABLED.replace("Restart=no", "Restart=never"))
    assert "aya-disabled.conf" in verify(paths).stderr


@needs_systemd
def test_systemctl_enables_the_units_and_tells_so(lab_site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "systemd" / "system"
    folder.mkdir(parents=True)
    write_units(kept_by(lab_site, "systemd"), folder)

    def systemctl(*words: str) -> str:
        done = subprocess.run(["systemctl", f"--root={tmp_path}", *words], capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    assert parse_enabled(systemctl("is-enabled", "postgresql-18")) is False
    for unit, wants in (
        ("postgresql-18.service", "multi-user"),
        ("aya.embedding-service.service", "multi-user"),
        ("aya.status.timer", "timers"),
    ):
        systemctl("enable", unit)
        assert (folder / f"{wants}.target.wants" / unit).is_symlink()
        assert parse_enabled(systemctl("is-enabled", unit)) is True
        systemctl("disable", unit)
        assert parse_enabled(systemctl("is-enabled", unit)) is False
    assert parse_enabled(systemctl("is-enabled", "aya.status.service")) is None  # static: its timer starts it
    assert parse_enabled(systemctl("is-enabled", "no-such-unit")) is None


def test_a_fenced_server_is_passed_over_and_the_guard_is_asked(lab_site: Site, tmp_path: Path) -> None:
    site = kept_by(lab_site, "systemd", data_directory=tmp_path / "data")
    text = units(site, "ALPHA", ACCOUNT)[0].text
    assert f"\nConditionPathExists=!{tmp_path}/data/aya.fenced\n" in text
    assert f"\nExecStartPre={site.nodes['ALPHA'].aya} guard --site {site.name} --node ALPHA\n" in text
    assert "\nRestart=on-failure\n" in text
    assert f"\nEnvironmentFile=-/etc/aya/{site.name}.env\n" in text


@needs_systemd
def test_systemd_itself_sees_the_fence_whatever_the_path(lab_site: Site, tmp_path: Path) -> None:
    data = tmp_path / "100%n da ta"
    data.mkdir()
    text = units(kept_by(lab_site, "systemd", data_directory=data), "ALPHA", ACCOUNT)[0].text
    line = next(line for line in text.splitlines() if line.startswith("Condition"))
    words = ["systemd-analyze", "condition", line]
    assert subprocess.run(words, capture_output=True, timeout=60).returncode == 0
    (data / "aya.fenced").touch()
    assert subprocess.run(words, capture_output=True, timeout=60).returncode == 1


def test_words_are_written_as_systemd_reads_them(lab_site: Site, tmp_path: Path) -> None:
    """Quotes, backslashes, specifiers and variables, by systemd.service(5), COMMAND LINES."""
    site = kept_by(lab_site, "systemd", data_directory=Path('/a b%n$HOME"c\\d'), bin_directory=Path("/bin"))
    text = units(site, "ALPHA", ACCOUNT)[0].text
    assert '\nExecStart=/bin/postgres -D "/a b%%n$$HOME\\"c\\\\d"\n' in text


def test_property_lists_are_what_macos_reads(lab_site: Site, tmp_path: Path) -> None:
    paths = write_units(kept_by(lab_site, "launchd"), tmp_path)
    read = [plistlib.loads(path.read_bytes()) for path in paths]
    assert [each["Label"] for each in read] == ["postgresql-18", "aya.embedding-service", "aya.status"]
    assert [path.stem for path in paths] == [each["Label"] for each in read]
    assert all(each["UserName"] == ACCOUNT and each["RunAtLoad"] for each in read)
    assert read[0]["KeepAlive"] == {"SuccessfulExit": False}
    if not shutil.which("plutil"):
        pytest.skip("no plutil on this machine: read by plistlib only")
    subprocess.run(["plutil", "-lint", *map(str, paths)], check=True)


@pytest.mark.parametrize(("guard", "fenced", "status"), [(0, False, 0), (1, False, 1), (0, True, 0)])
def test_the_property_lists_shell_asks_the_guard_and_becomes_the_server(
    lab_site: Site, tmp_path: Path, guard: int, fenced: bool, status: int
) -> None:
    """The very words that launchd gets, run by the real shell; programs that tell how they were called play aya and postgres."""
    site = kept_by(lab_site, "launchd", data_directory=tmp_path / "da ta's", bin_directory=tmp_path)
    alpha = site.nodes["ALPHA"].model_copy(update={"aya": tmp_path / "aya"})
    site = site.model_copy(update={"nodes": {**site.nodes, "ALPHA": alpha}})
    (tmp_path / "da ta's").mkdir()
    (tmp_path / "secret.env").write_text("AYA_TOLD=value\n")
    for name, code in (("aya", guard), ("postgres", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$$ {name} $* $AYA_TOLD"\nexit {code}\n')
        program.chmod(0o755)
    if fenced:
        (tmp_path / "da ta's" / "aya.fenced").touch()
    words = plistlib.loads(units(site, "ALPHA", ACCOUNT)[0].text.encode())["ProgramArguments"]
    words = [word.replace(str(Home(site, "ALPHA", ACCOUNT).environment), str(tmp_path / "secret.env")) for word in words]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = process.communicate(timeout=30)[0].splitlines()
    assert process.returncode == status
    asked = [line.split(" ", 1)[1] for line in said]
    started = f"postgres -D {tmp_path}/da ta's value"
    question = f"aya guard --site {site.name} --node ALPHA value"
    assert asked == ([] if fenced else [question, started] if guard == 0 else [question])
    if started in asked:
        assert said[-1].startswith(f"{process.pid} ")  # launchd's process is the server itself


@pytest.mark.parametrize("kind", ["systemd", "launchd"])
def test_nothing_secret_is_in_a_generated_file(lab_site: Site, monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    monkeypatch.setenv("AYA_LAB_POSTGRES_PASSWORD", "s3cret")
    site = kept_by(lab_site, kind)
    texts = [unit.text for unit in units(site, "ALPHA", ACCOUNT)] + [environment(site, "ALPHA")]
    assert not any("s3cret" in text for text in texts)
    assert all(line.startswith("#") for line in texts[-1].splitlines())
    assert "# AYA_LAB_POSTGRES_PASSWORD=" in texts[-1]


def test_a_labs_node_has_no_units(lab_site: Site) -> None:
    assert units(lab_site, "ALPHA", ACCOUNT) == ()


def test_files_are_written_kept_aside_and_removed_for_real(lab_site: Site, tmp_path: Path) -> None:
    node = open_nodes(kept_by(lab_site, "launchd"))["ALPHA"]
    path = tmp_path / "unit file.plist"
    path.write_text("somebody's")
    put_aside(str(path)).run(node)
    write(node, str(path), "ours").run(node)
    write(node, str(path), "ours").run(node)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("ours", 0o644)
    remove(node, str(path)).run(node)
    assert path.read_text() == "somebody's"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    write(node, str(tmp_path / "other"), "ours").run(node)
    remove(node, str(tmp_path / "other")).run(node)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_environment_file_is_private_and_what_a_person_wrote_stays(lab_site: Site, tmp_path: Path) -> None:
    node = open_nodes(kept_by(lab_site, "launchd"))["ALPHA"]
    path = tmp_path / "aya" / "lab.env"
    action = secrets(str(path), environment(node.site, "ALPHA"), ACCOUNT)
    action.run(node)
    assert path.read_text() == environment(node.site, "ALPHA")
    path.write_text("NAME=value\n")
    path.chmod(0o644)
    action.run(node)
    listed = subprocess.run(["ls", "-ld", str(path)], capture_output=True, text=True, env={"LC_ALL": "C"}).stdout
    assert parse_ls(str(path), listed).only_of(ACCOUNT)
    assert path.read_text() == "NAME=value\n"
    assert "NAME" not in action.command(node)
    delete(str(path)).run(node)
    assert not path.parent.exists()


def test_a_node_whose_systemd_cannot_be_asked_is_unknown_and_nothing_is_changed(lab_site: Site) -> None:
    if Path("/run/systemd/system").exists():
        pytest.skip("this machine runs systemd: it can be asked")
    site = kept_by(lab_site, "systemd")
    seen = look(only(open_nodes(site)["ALPHA"]))
    unknown = {check.name for check in preconditions(seen) if check.status == "unknown"}
    assert "ALPHA state of postgresql" in unknown


# What each action does to a node, as its facts then show it: enough to walk a plan without the machine.
def after(step: Change, seen: NodeSeen) -> NodeSeen:
    files, action = dict(seen.files if isinstance(seen.files, dict) else {}), step.action
    match action:
        case WriteFile():
            return replace(seen, files={**files, str(action.path): action.text})
        case Script() if str(action.script).startswith(REMOVE):
            return replace(seen, files={**files, action.words[0]: None})
        case Script(script=script, words=words) if script == SECRETS:
            return replace(seen, environment=Private(words[0], "-rw-------", words[1]))
        case Script(script=script) if script == DELETE:
            return replace(seen, environment=None)
        case Service():
            return replace(
                seen, services=tuple(acted(action, one) if one.name == action.service else one for one in seen.services)
            )
        case Script() if action == reload():
            return replace(seen, reload=False)
        case _:
            return seen


def acted(action: Service, one: ServiceSeen) -> ServiceSeen:
    if action.action in ("enable", "disable"):
        return replace(one, enabled=action.action == "enable")
    if action.action == "stop":
        return replace(one, process=ServiceState("stopped", detail="not loaded"), answer=None)
    return replace(one, process=ServiceState("running", 7), answer="x")


def found(node: Node, *, foreign: bool, runs: bool) -> NodeSeen:
    """A node before: nothing there, or somebody else's files, running or not."""
    site = node.site
    state = ServiceState("running", 5) if runs else ServiceState("stopped", detail="not loaded")
    names = ("postgresql", "embedding", "status")
    services = tuple(ServiceSeen(name, True, runs or None, state, None, "primary" if runs else None) for name in names)
    files = {str(unit.path): "somebody's" if foreign else None for unit in units(site, "ALPHA", ACCOUNT)}
    return NodeSeen("ALPHA", ACCOUNT, services, files, None, "")


@pytest.mark.parametrize("kind", ["systemd", "launchd"])
@pytest.mark.parametrize(("foreign", "runs"), [(False, False), (True, True)])
@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_from_every_half_way_state_the_rest_of_the_plan_comes_out(
    lab_site: Site, kind: Kind, foreign: bool, runs: bool, action: str
) -> None:
    site = kept_by(lab_site, kind)
    nodes = only(open_nodes(site)["ALPHA"])
    seen = found(nodes["ALPHA"], foreign=foreign, runs=runs)
    if action == "uninstall":
        for step in plan(Autostart(nodes, {"ALPHA": seen})).changes:
            seen = after(step, seen)
    whole = plan(Autostart(nodes, {"ALPHA": seen}, action)).changes
    assert whole
    for done in range(len(whole) + 1):
        now = seen
        for step in whole[:done]:
            now = after(step, now)
        rest = plan(Autostart(nodes, {"ALPHA": now}, action)).changes
        ours = [step.title for step in rest if not step.title.startswith("Keep ")]
        for step in rest:
            now = after(step, now)
        ended = Autostart(nodes, {"ALPHA": now}, action)
        assert plan(ended).changes == ()
        judged = checks(ended)
        assert worst(judged) == "passed", [check for check in judged if check.status != "passed"]
        assert set(ours) <= {step.title for step in whole} | {"Start postgresql", "Start embedding", "Start status"}


@pytest.mark.parametrize(
    ("pid", "answer", "status"), [(6, "primary", "passed"), (5, "primary", "failed"), (6, "standby, streaming", "failed")]
)
def test_only_a_new_process_that_answers_as_before_has_come_back(lab_site: Site, pid: int, answer: str, status: str) -> None:
    nodes = only(open_nodes(kept_by(lab_site, "systemd"))["ALPHA"])
    seen = found(nodes["ALPHA"], foreign=False, runs=True)
    before = Autostart(nodes, {"ALPHA": seen})
    assert [(kept.pid, kept.answer) for kept in before.kept(service="postgresql")] == [(5, "primary")]
    now = replace(seen, services=(replace(seen.services[0], process=ServiceState("running", pid), answer=answer),))
    judge = returned(before, service="postgresql")
    assert [check.status for check in judge(lab_site, Autostart(nodes, {"ALPHA": now}))] == [status]
    assert before.kept(False) == ()


@pytest.mark.parametrize("kind", ["systemd", "launchd"])
def test_a_fenced_server_gets_its_unit_and_is_neither_enabled_nor_started(lab_site: Site, kind: Kind) -> None:
    node = open_nodes(kept_by(lab_site, kind))["ALPHA"]
    seen = replace(found(node, foreign=False, runs=False), fenced="fenced by somebody")
    titles = [step.title for step in plan(Autostart(only(node), {"ALPHA": seen})).changes]
    assert any(title.startswith("Install postgresql-18") for title in titles)
    assert not {"Let postgresql start by itself", "Start postgresql"} & set(titles)
    assert "Let embedding start by itself" in titles


def test_what_interrupts_or_destroys_is_said(lab_site: Site) -> None:
    node = open_nodes(kept_by(lab_site, "launchd"))["ALPHA"]
    seen = Autostart(only(node), {"ALPHA": found(node, foreign=True, runs=True)})
    harmful = [step.title for step in plan(seen).changes if step.harmful]
    assert harmful == [f"Unload {name}, whose file changes" for name in ("postgresql", "embedding", "status")]
    assert all(step.interrupts for step in kill(seen).changes)
    titles = [step.title for step in plan(seen).changes]
    assert titles.index("Keep the postgresql-18.plist that was there") < titles.index("Replace postgresql-18.plist")
    now = seen.seen["ALPHA"]
    for step in plan(seen).changes:
        now = after(step, now)
    gone = plan(Autostart(only(node), {"ALPHA": now}, "uninstall")).changes
    assert [step.title for step in gone if step.destroys] == ["Remove the environment file with its secrets"]
    assert all(HEADER in str(text) for text in now.files.values())  # type: ignore[union-attr]


def test_what_the_tools_print_becomes_what_we_know() -> None:
    assert parse_disabled('\tdisabled services = {\n\t\t"a.b" => disabled\n\t\t"c" => true\n\t\t"d" => enabled\n\t}') == {
        "a.b",
        "c",
    }
    assert parse_enabled("enabled-runtime\n") is False
    assert parse_enabled("static\n") is None
    assert parse_enabled("Failed to get unit file state for x.service: No such file or directory\n") is None
    assert not parse_ls("x", "-rw-rw----+ 1 root root 0 Jan  1 00:00 x").only_of("root")
    assert parse_ls("x", "-rw-------. 1 root root 0 Jan  1 00:00 x").only_of("root")
