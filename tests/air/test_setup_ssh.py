"""A laptop set up over a real ssh on a host of its own: host key, cluster behind a tunnel, daemon there, and a cut link."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from air_work import ask, one, same
from cut_off import PORT, Hosts, lacking
from laptop_host import away
from tests_support import Stepped, passed, step

from aya_lib import settings
from aya_lib.errors import Unreachable
from aya_lib.node import wait
from aya_lib.node.node import open_nodes
from aya_lib.node.process import daemon_file
from aya_lib.site import read_yaml

INSERT = (
    "import sys, psycopg\n"
    "with psycopg.connect(sys.argv[1], autocommit=True) as connection:\n"
    "    connection.execute(\"INSERT INTO documents (content) VALUES ('Written on a train, behind a cut link.')\")\n"
)


@pytest.fixture(scope="module")
def air(place: Path) -> Iterator[Hosts]:
    why = lacking()
    if why:
        pytest.skip(why)
    with away(place, "away") as made:
        yield made


def run(air: Hosts, **values: object) -> Stepped:
    return step("air_setup", site=air.site.name, keep=True, **values)


def known(air: Hosts) -> list[str]:
    ssh = air.site.nodes["AIR"].ssh
    assert ssh
    assert ssh.config
    file = ssh.config.with_name("known_hosts")
    return file.read_text().splitlines() if file.exists() else []


def test_a_key_with_another_fingerprint_is_never_accepted(air: Hosts) -> None:
    path = settings.parameters() / air.site.name / "site.yaml"
    right = path.read_text()
    content = read_yaml(path)
    content["nodes"]["AIR"]["ssh"]["fingerprint"] = "SHA256:" + "A" * 43
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    try:
        refused = run(air)
    finally:
        path.write_text(right)
    assert refused.check("AIR host key")["status"] == "failed"
    assert "SHA256:AAAA" in refused.check("AIR host key")["expected"]
    assert (refused.exit_code, refused.done, known(air)) == (1, [], [])


def test_a_host_that_was_known_by_another_key_is_refused(air: Hosts) -> None:
    ssh = air.site.nodes["AIR"].ssh
    assert ssh
    assert ssh.config
    folder = ssh.config.parent
    other = (folder / "client.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[{air.there}]:{PORT} {' '.join(other)}\n")
    try:
        refused = run(air)
        assert refused.check("AIR host key")["status"] == "passed"
        assert refused.check("AIR in known_hosts")["status"] == "failed"
        assert "ssh-keygen -R" in refused.check("AIR in known_hosts")["hint"]
        assert (refused.done, len(known(air))) == ([], 1)
    finally:
        (folder / "known_hosts").unlink()


def test_a_dry_run_accepts_no_key_either_and_shows_what_would_be_done(air: Hosts, capsys: pytest.CaptureFixture[str]) -> None:
    dry = run(air, dry_run=True)
    assert (dry.done, known(air)) == ([], [])
    assert "Accept the host key" in capsys.readouterr().out


def test_set_up_from_nothing_and_a_second_time_nothing_is_left_to_do(air: Hosts) -> None:
    done = passed(run(air))
    ssh = air.site.nodes["AIR"].ssh
    assert ssh
    assert done.done[:2] == [f"Accept the host key {ssh.fingerprint}", "Make the cluster, for local access only"]
    assert len(known(air)) == 1
    assert {"pull", "push", "offline", "reconnect"} <= {one["name"] for one in done.record["steps"] if one["kind"] == "check"}
    port = air.site.nodes["AIR"].postgresql.port
    sockets = subprocess.run([*air.within, "ss", "-Hltn"], capture_output=True, text=True).stdout
    listens = [line.split()[3] for line in sockets.splitlines()]
    addresses = [address.rsplit(":", 1)[0] for address in listens if address.endswith(f":{port}")]
    assert set(addresses) in ({"127.0.0.1"}, {"127.0.0.1", "[::1]"})
    again = passed(run(air))
    assert [title for title in again.done if not title.startswith("Kill")] == []


def test_what_is_written_behind_a_cut_link_arrives_when_it_is_whole_again(air: Hosts) -> None:
    nodes = open_nodes(air.site)

    def online() -> bool:
        return bool(json.loads(daemon_file(air.site).read_text())["online"])

    def equal() -> bool:
        try:
            return same(nodes) == []
        except Unreachable:  # the shared ssh connection sends again only after a pause of TCP's own
            return False

    def until(look: object, what: str) -> None:
        wait.until(look, bool, node="AIR", what=what, deadline_s=90, poll_s=0.1)  # type: ignore[arg-type]

    until(online, "it is online")
    password = (air.site.root / "secrets" / "pgpass").read_text().split("postgres:")[1].split()[0]
    there = f"host=127.0.0.1 port={air.site.nodes['AIR'].postgresql.port} dbname=aya_rag user=postgres password={password}"
    air.cut()
    try:
        ask(nodes, "ALPHA", "INSERT INTO documents (content) VALUES ('Committed while the laptop was away.')")
        process = air.inside(INSERT, there)
        assert process.wait(20) == 0, process.stdout and process.stdout.read()
        until(lambda: not online(), "the daemon notices")
    finally:
        air.heal()
    text = "SELECT count(embedding) FROM documents d JOIN chunks c ON c.document_id = d.id WHERE d.content LIKE 'Written on%'"
    until(lambda: one(nodes, "ALPHA", text) == 1, "what was written is there, with its embedding")
    until(equal, "both sides are equal")
