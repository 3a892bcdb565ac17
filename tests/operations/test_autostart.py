"""The lab's keep-alive: what died comes back, what was stopped or passed over does not, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pairs import kill
from tests_support import again, aya, only, passed, step

from aya_lib import lab as labs
from aya_lib.cluster import state as standing
from aya_lib.cluster.server import Cluster
from aya_lib.cluster.server import look as look_cluster
from aya_lib.cluster.state import MARK, Fence
from aya_lib.errors import DeadlinePassed
from aya_lib.lab.faults import inject
from aya_lib.lab.keeper import Keeper, Watched
from aya_lib.node import pidfile, wait
from aya_lib.node.keepalive import Keepalive
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.node.process import Processes
from aya_lib.operations import autostart
from aya_lib.operations.guard.judge import rule
from aya_lib.operations.guard.look import look as look_guard
from aya_lib.site import Site, Ssh

SECONDS = 40


@pytest.fixture
def alpha(bare: Site) -> Iterator[Node]:
    """ALPHA, running and kept alive; afterwards running and not."""
    node = open_nodes(bare)["ALPHA"]
    node.supervisor.start("postgresql")
    node.supervisor.enable("postgresql")
    yield node
    node.supervisor.disable("postgresql")
    (node.data_directory / MARK).unlink(missing_ok=True)
    standing.unfence(bare, "ALPHA")
    node.supervisor.start("postgresql")


def test_a_killed_server_returns_as_a_new_process_and_takes_writes(alpha: Node) -> None:
    killed = kill(alpha)
    assert returned(alpha) != killed
    with alpha.session(write=True) as connection:
        connection.execute("SELECT pg_logical_emit_message(true, 'aya test', 'written after the kill')")


def test_what_was_stopped_on_purpose_stays_stopped_until_it_is_started(alpha: Node) -> None:
    alpha.supervisor.stop("postgresql")
    turns(alpha)
    assert alpha.supervisor.state("postgresql").status == "stopped"
    assert alpha.supervisor.enabled("postgresql") is True
    alpha.supervisor.start("postgresql")
    killed = kill(alpha)
    assert returned(alpha) != killed


def test_what_is_disabled_stays_down_and_the_keeper_ends(alpha: Node) -> None:
    keeper = keeping(alpha).keeper().pid
    alpha.supervisor.disable("postgresql")
    assert keeper is not None
    assert pidfile.living(keeper) is None
    kill(alpha)
    turns(alpha)
    assert alpha.supervisor.state("postgresql").status == "stale"
    assert alpha.supervisor.enabled("postgresql") is False


def test_enabling_starts_nothing_that_was_stopped(alpha: Node) -> None:
    alpha.supervisor.disable("postgresql")
    alpha.supervisor.stop("postgresql")
    alpha.supervisor.enable("postgresql")
    turns(alpha)
    assert alpha.supervisor.state("postgresql").status == "stopped"


def test_a_start_by_hand_and_the_keeper_do_not_meet(alpha: Node) -> None:
    """Whoever acts on the service holds its lock; the keeper then looks away."""
    with keeping(alpha).lock("postgresql"):
        kill(alpha)
        turns(alpha)
        assert alpha.supervisor.state("postgresql").status == "stale"
        with pytest.raises(DeadlinePassed, match="somebody else has been at it"), keeping(alpha).lock("postgresql", wait_s=0):
            pass
    returned(alpha)


def test_a_fenced_server_is_not_started_and_returns_when_the_fence_is_lifted(alpha: Node) -> None:
    mark = alpha.data_directory / MARK
    mark.write_text("passed over")
    kill(alpha)
    said(alpha, "ALPHA must not start: aya.fenced is in its data directory: passed over")
    turns(alpha)
    assert alpha.supervisor.state("postgresql").status == "stale"
    mark.unlink()
    returned(alpha)


def test_a_fence_in_the_sites_standing_holds_too(alpha: Node) -> None:
    standing.fence(alpha.site, Fence("ALPHA", "2026-01-01", "somebody", "confirmed", "its power was cut"))
    kill(alpha)
    said(alpha, "ALPHA must not start: it was fenced 2026-01-01 by somebody (confirmed): its power was cut. Run rejoin")
    assert guard(alpha).returncode == 1
    standing.unfence(alpha.site, "ALPHA")
    assert guard(alpha).returncode == 0
    returned(alpha)


def test_a_keeper_that_was_killed_is_seen_and_watches_again(alpha: Node) -> None:
    keeper = keeping(alpha).keeper().pid
    assert keeper is not None
    psutil.Process(keeper).kill()
    killed = kill(alpha)
    seen = autostart.look(only(alpha)).seen["ALPHA"]
    assert seen.keeper is not None
    assert seen.keeper.status == "stale"
    alpha.supervisor.enable("postgresql")
    assert keeping(alpha).keeper().pid not in (None, keeper)
    assert returned(alpha) != killed


def test_there_is_one_keeper_a_node(alpha: Node) -> None:
    before = keeping(alpha).keeper()
    second = subprocess.run(keeping(alpha).command, capture_output=True, text=True, timeout=SECONDS)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert keeping(alpha).keeper() == before


def test_a_server_that_cannot_start_is_tried_less_and_less_often(alpha: Node) -> None:
    conf = alpha.data_directory / "lab.conf"
    good = conf.read_text()
    one = Watched("postgresql")
    try:
        conf.write_text(good + "no_such_setting = 1\n")
        kill(alpha)
        said(alpha, "no_such_setting")
        watch = Keeper(alpha, supervisor(alpha))
        waits = [0.0]
        for _ in range(3):
            one.not_before = 0
            wait.until(
                lambda: watch.turn(one), lambda _: one.wait_s != waits[-1], node="ALPHA", what="a turn", deadline_s=SECONDS
            )  # a turn at which the lab's own keeper holds the lock changes nothing
            waits.append(one.wait_s)
    finally:
        conf.write_text(good)
    assert waits == [0.0, 0.5, 1.0, 2.0]
    returned(alpha)


def test_a_lab_that_goes_down_takes_its_keepers_and_up_is_its_boot(alpha: Node) -> None:
    labs.down(alpha.site)
    assert keeping(alpha).keeper().status == "stopped"
    labs.up(alpha.site, embedding=False)
    assert keeping(alpha).keeper().status == "running"
    killed = kill(alpha)
    assert returned(alpha) != killed


def test_an_old_primary_is_not_started_beside_one_on_a_later_timeline(bare: Site) -> None:
    alpha = open_nodes(bare)["ALPHA"]
    try:
        alpha.supervisor.enable("postgresql")
        inject(bare, "two-primaries")
        kill(alpha)
        said(alpha, "ALPHA must not start: BETA is a primary on timeline 2, this data directory ends on timeline 1")
        turns(alpha)
        assert alpha.supervisor.state("postgresql").status == "stale"
        refused = guard(alpha)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("aya: ALPHA must not start: BETA is a primary on timeline 2")
        allowed = guard(open_nodes(bare)["BETA"])
        assert allowed.returncode == 0
        assert allowed.stdout.startswith("BETA may start: as a primary on timeline 2; ALPHA could not be asked: ")
    finally:
        again(bare)
    assert not list((bare.root / "run").glob("*.keep"))


def test_the_guard_says_why_in_one_line(bare: Site) -> None:
    beta = open_nodes(bare)["BETA"]
    assert guard(beta).stdout == "BETA may start: as a standby\n"
    inject(bare, "standby-signal-missing")
    try:
        refused = guard(beta)
    finally:
        again(bare)
    assert refused.returncode == 1
    assert "ALPHA is a primary on timeline 1" in refused.stderr
    assert "it would be a second primary" in refused.stderr
    air = guard(open_nodes(bare)["AIR"])
    assert (air.returncode, air.stdout) == (0, "AIR may start: it stands alone\n")


def test_the_guard_looks_at_this_machine_also_when_the_site_reaches_the_node_by_ssh(bare: Site) -> None:
    node = open_nodes(bare)["ALPHA"]
    elsewhere = Ssh(host="nowhere.invalid", user=None, port=None, config=None)
    far = replace(node, config=node.config.model_copy(update={"ssh": elsewhere}))
    ruling = rule(look_guard(Nodes(bare, {**open_nodes(bare), "ALPHA": far}), "ALPHA"))
    assert ruling.line == "ALPHA may start: as a primary on timeline 1; BETA is a standby on timeline 1"


def test_the_guard_refuses_when_it_cannot_tell_who_is_fenced(bare: Site) -> None:
    path = standing.path(bare)
    path.write_text("{")
    try:
        refused = guard(open_nodes(bare)["ALPHA"])
    finally:
        path.unlink()
    assert refused.returncode == 1
    assert "who is fenced cannot be told" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_guard_of_an_unknown_node_is_a_usage_error(lab_site: Site) -> None:
    done = subprocess.run([sys.executable, "-m", "aya_lib", "guard", "--node", "GAMMA"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown node 'GAMMA'. Allowed are ALPHA, BETA, AIR" in done.stderr


def test_the_runbook_kills_everything_and_sees_it_return_and_leaves_the_lab_as_it_was(lab: Site) -> None:
    before = pids(lab)
    passed(step("autostart"))
    after = pids(lab)
    killed = {key for key, pid in before.items() if pid}
    assert killed == {key for key, pid in after.items() if pid} >= {("ALPHA", "embedding"), ("BETA", "postgresql")}
    assert all(after[key] != before[key] for key in killed)
    assert not leftovers(lab)


def test_a_dry_run_changes_nothing(lab: Site) -> None:
    before = pids(lab)
    done = step("autostart", dry_run=True)
    assert (done.error, done.record["outcome"]) == (None, "planned")
    assert pids(lab) == before
    assert not leftovers(lab)


def test_kept_and_uninstalled_for_one_node(bare: Site) -> None:
    installed = step("autostart", site=bare.name, node="AIR", prove=False, keep=True)
    assert len(installed.done) == 3
    nodes = open_nodes(bare)
    assert [name for name, node in nodes.items() if node.supervisor.enabled("postgresql")] == ["AIR"]
    assert not step("autostart", site=bare.name, node="AIR", prove=False, keep=True).done
    assert len(step("autostart", site=bare.name, node="AIR", prove=False, action="uninstall").done) == 3
    assert not leftovers(bare)
    assert nodes["AIR"].supervisor.state("postgresql").status == "running"


@pytest.mark.parametrize(
    ("values", "error"),
    [({"action": "instal"}, "allowed are install and uninstall"), ({"node": "GAMMA"}, "unknown node 'GAMMA'")],
)
def test_wrong_words_are_refused_before_anything_is_changed(lab: Site, values: dict[str, str], error: str) -> None:
    done = step("autostart", **values)
    assert done.exit_code != 0
    assert error in str(done.error)
    assert not done.done


def supervisor(node: Node) -> Processes:
    assert isinstance(node.supervisor, Processes)
    return node.supervisor


def keeping(node: Node) -> Keepalive:
    return supervisor(node).keep


def turns(node: Node) -> None:
    """What the keeper does at each turn, several times, here: nothing has to be waited for."""
    watch = Keeper(node, supervisor(node))
    for _ in range(3):
        for service in keeping(node).services():
            watch.turn(Watched(service))


def returned(node: Node) -> int:
    """The PID of the server once it accepts sessions."""
    wait.until(
        lambda: look_cluster(node),
        lambda found: isinstance(found, Cluster),
        node=node.name,
        what="its server is back",
        deadline_s=SECONDS,
    )
    state = node.supervisor.state("postgresql")
    assert state.pid is not None
    return state.pid


def said(node: Node, line: str) -> None:
    """Wait until the keeper's log says it."""
    log: Path = keeping(node).log
    wait.until(
        lambda: log.read_text(), lambda text: line in text, node=node.name, what=f"the keeper says: {line}", deadline_s=SECONDS
    )


def guard(node: Node) -> subprocess.CompletedProcess[str]:
    return aya("guard", "--site", node.site.name, "--node", node.name)


def pids(site: Site) -> dict[tuple[str, str], int | None]:
    nodes = open_nodes(site)
    return {
        (name, service): node.supervisor.state(service).pid for name, node in nodes.items() for service in node.supervisor.units
    }


def leftovers(site: Site) -> list[str]:
    """Files of the keep-alive, and keepers."""
    files = [path.name for pattern in ("*.keep", "*keeper.pid") for path in (site.root / "run").glob(pattern)]
    alive = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    return files + [words for words in alive if "aya_lib.lab.keeper" in words and str(site.root) in words]
