"""The receiver of WAL on a real pair: it follows a promotion, ends with who started it, and says what is lacking."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pairs import kill, reconfigured
from tests_support import make, up

from aya_lib import lab as labs
from aya_lib.backup.archive import Begin, begin, next_position
from aya_lib.cluster import server
from aya_lib.cluster.lsn import number
from aya_lib.cluster.server import Cluster, Switch
from aya_lib.errors import AyaError
from aya_lib.node import wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.process import receiver_file
from aya_lib.site import Site

MB = 1 << 20


def test_what_lies_past_the_fork_is_not_gone_on_from() -> None:
    names = [f"00000001{0:08X}{n:08X}" for n in (2, 3, 4)]
    forked = [Switch(1, "0/3800000")]
    assert begin(names, 1, [], 16 * MB) == Begin((), None)
    assert begin(names, 2, forked, 16 * MB) == Begin((names[2],), names[1])
    on_two = [*names[:2], f"{names[1]}.partial", f"00000002{0:08X}{3:08X}"]
    assert begin(on_two, 2, forked, 16 * MB) == Begin((), None)
    assert begin([*names, f"00000002{0:08X}{3:08X}"], 3, forked, 16 * MB) == Begin(
        (names[2], f"00000002{0:08X}{3:08X}"), names[1]
    )
    assert begin([*names, f"00000005{0:08X}{3:08X}"], 2, [], 16 * MB) == Begin(tuple(names), None)


def test_where_it_goes_on() -> None:
    names = [f"00000001{0:08X}{n:08X}" for n in (2, 3)]
    assert next_position([], 16 * MB) is None
    assert next_position(names, 16 * MB) == 4 * 16 * MB
    assert next_position([*names, f"00000001{0:08X}{4:08X}.partial"], 16 * MB) == 4 * 16 * MB
    assert next_position([*names, f"{names[1]}.partial"], 16 * MB) == 4 * 16 * MB


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Site]:
    made = reconfigured(make(place, "receiver"), lambda config: config.update(backup={"node": "BETA", "rpo_s": 0.3}))
    try:
        up(made)
        beta = open_nodes(made)["BETA"]
        cluster = server.look(beta)
        assert isinstance(cluster, Cluster)
        where = receiver_file(made).parent
        script = 'mkdir -p -m 0700 "$1/wal" && cat > "$1/repository.json"'
        line = json.dumps({"system_identifier": cluster.system_identifier})
        beta.shell.run(["install", "-d", "-o", str(beta.account), str(where)]).checked()
        beta.shell.run(["sh", "-c", script, "sh", str(where)], stdin=line, account=beta.account).checked()
        yield made
    finally:
        labs.delete(made)


def state(site: Site) -> dict[str, object]:
    try:
        return dict(json.loads(receiver_file(site).read_text()))
    except FileNotFoundError:
        return {}


def safe(site: Site, node: str) -> None:
    """Write on a node, and wait until the archive has it."""
    with open_nodes(site)[node].session(database="postgres", write=True) as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'a', repeat('x', 100000))")
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    until(site, lambda found: number(str(found.get("flushed", "0/0"))) >= number(str(row[0])), f"{row[0]} is safe")


def until(site: Site, rule, what: str) -> dict[str, object]:  # type: ignore[no-untyped-def]
    return wait.until(lambda: state(site), rule, node="BETA", what=what, deadline_s=60)


def receivers(site: Site) -> list[psutil.Process]:
    folder = str(receiver_file(site).parent)
    return [
        p
        for p in psutil.process_iter(["name", "cmdline"])
        if p.info["name"] == "pg_receivewal" and folder in " ".join(p.cmdline())
    ]


def files(site: Site) -> list[str]:
    folder = receiver_file(site).parent / "wal"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def beta(site: Site) -> Node:
    return open_nodes(site)["BETA"]


def test_it_follows_a_promotion_and_leaves_nothing_behind(site: Site) -> None:
    nodes = open_nodes(site)
    node = nodes["BETA"]
    node.supervisor.start("wal")
    assert node.supervisor.state("wal").status == "running"
    safe(site, "ALPHA")

    # Killed, with no chance to say anything: what it had started ends too, and a new one goes on.
    pid = node.supervisor.state("wal").pid
    assert pid is not None
    psutil.Process(pid).send_signal(signal.SIGKILL)
    wait.until(lambda: receivers(site), lambda left: not left, node="BETA", what="pg_receivewal ends", deadline_s=30)
    node.supervisor.start("wal")
    safe(site, "ALPHA")

    # Its server is away: the primary is asked.
    node.supervisor.stop("postgresql")
    safe(site, "ALPHA")
    assert state(site)["source"] == "ALPHA"
    node.supervisor.start("postgresql")
    until(site, lambda found: found.get("source") == "BETA" and found["state"] == "receiving", "it is back at its own server")

    # The keeper's server is promoted while ALPHA writes on, unseen: two branches.
    kill(nodes["ALPHA"])
    with node.session(database="postgres", write=True, deadline_s=30) as connection:
        connection.execute("SELECT pg_promote()")
    safe(site, "BETA")
    assert "00000002.history" in files(site)
    assert [name for name in files(site) if name.startswith("00000001") and name.endswith(".partial")]


def test_what_it_has_of_a_branch_that_its_server_left_does_not_hold_it_up(site: Site) -> None:
    """As after a rewind of the keeper's server: the archive has WAL past the fork, and none of what followed it."""
    node, wal = beta(site), receiver_file(site).parent / "wal"
    node.supervisor.stop("wal")
    forked = next(wal.glob("00000001*.partial"))
    number_after = int(forked.name[16:24], 16) + 1
    script = 'cd "$1" && mv "$2.partial" "$2" && cp "$2" "$3" && rm 00000002*'
    words = ["sh", str(wal), forked.name[:24], f"{forked.name[:16]}{number_after:08X}"]
    node.shell.run(["sh", "-c", script, *words], account=node.account).checked()
    node.supervisor.start("wal")
    safe(site, "BETA")
    assert f"timeline-end-00000002/{words[-1]}" in files(site)
    assert {forked.name, "00000002.history"} <= {*files(site)}


def test_another_cluster_is_never_received_from(site: Site) -> None:
    node, file = beta(site), receiver_file(site).parent / "repository.json"
    before = file.read_text()
    file.write_text(json.dumps({"system_identifier": "1"}))
    try:
        node.supervisor.restart("wal")
        said = until(site, lambda found: "another cluster" in str(found["reason"]), "it refuses")
        assert said["state"] == "waiting"
        assert not receivers(site)
    finally:
        file.write_text(before)


def test_wal_that_no_server_has_any_more_is_a_gap_that_is_said(site: Site) -> None:
    node = beta(site)
    node.supervisor.stop("wal")
    with node.session(database="postgres", write=True, deadline_s=60) as connection:
        connection.execute("SELECT pg_drop_replication_slot('aya_backup')")
        connection.execute("ALTER SYSTEM SET wal_keep_size = 0")
        connection.execute("SELECT pg_reload_conf()")
        for _ in range(4):
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
    node.supervisor.start("wal")
    until(site, lambda found: "ALPHA cannot be asked" in str(found["reason"]), "the other node is waited for")
    assert not state(site).get("gaps")
    safe(site, "BETA")
    gaps = state(site)["gaps"]
    assert isinstance(gaps, list)
    assert "no server had it any more" in gaps[0]
    assert [name for name in files(site) if name.startswith("before-gap-")]


def test_only_one_and_only_on_the_keeper(site: Site) -> None:
    from aya_lib.backup import receiver

    for node, word in (("ALPHA", "not the keeper"), ("BETA", "another process")):
        with pytest.raises(AyaError, match=word):
            receiver.serve(site, node)
    beta(site).supervisor.stop("wal")
    assert not receivers(site)
