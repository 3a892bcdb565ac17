"""A pair on two hosts: ALPHA in a network namespace with a real sshd, BETA here; the link between them can be cut."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import yaml
from real_sshd import SSHD, client, sshd
from tests_support import make, up

from aya_lib import lab as labs
from aya_lib import settings
from aya_lib.node import ssh, wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.pidfile import ended
from aya_lib.node.shell import unprivileged
from aya_lib.site import Site, load_site, read_yaml

PORT = 2222  # of the sshd of a host of its own
NEAR_S = 2  # within which a host of this machine answers


def lacking() -> str:
    """Why such hosts cannot be made here; empty when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "ssh", "sudo"):
        if not shutil.which(program):
            return f"no {program} here"
    if not Path(SSHD).exists():
        return "no sshd here"
    name = f"aya-try-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "network namespaces cannot be made here"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return ""


@dataclass(frozen=True)
class Hosts:
    """``here`` and ``there``: addresses of BETA and ALPHA. ``namespace``: ALPHA's host."""

    site: Site
    namespace: str
    link: str
    here: str
    there: str

    @property
    def within(self) -> list[str]:
        """Words that run a program on ALPHA's host."""
        return ["ip", "netns", "exec", self.namespace]

    def cut(self) -> None:
        """From here on a session gets an answer at once or never."""
        subprocess.run(["ip", "link", "set", self.link, "down"], check=True)
        ssh.CONNECT_S = 1

    def heal(self) -> None:
        subprocess.run(["ip", "link", "set", self.link, "up"], check=True)
        ssh.CONNECT_S = NEAR_S

    def inside(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """A Python program on ALPHA's host."""
        command = [*self.within, sys.executable, "-c", code, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextmanager
def hosts(place: Path, name: str) -> Iterator[Hosts]:
    """Two hosts with a replicating pair on them; everything is removed at the end."""
    site = make(place, name)
    up(site)
    labs.down(site)
    number = settings.lab_ports()[0] // 100 % 200  # a number of this test process
    usual, ssh.CONNECT_S = ssh.CONNECT_S, NEAR_S
    found = Hosts(site, f"aya-{os.getpid()}", f"ayav{os.getpid() % 100000}", f"10.213.{number}.1", f"10.213.{number}.2")
    folder = place / f"{name}-ssh"
    with namespace(found), sshd(folder, found.there, PORT, *found.within):
        moved = replace(found, site=_move(found, folder))
        nodes = open_nodes(moved.site)
        try:
            for name_ in ("ALPHA", "BETA"):
                nodes[name_].supervisor.start("postgresql")
            _streams(nodes["ALPHA"])
            yield moved
        finally:
            moved.heal()
            nodes["ALPHA"].shell.close()  # type: ignore[attr-defined]  # a connection that was cut sends again only in its time
            for name_ in ("AIR", "BETA", "ALPHA"):
                quits(nodes[name_])
            nodes["ALPHA"].shell.close()  # type: ignore[attr-defined]
            shutil.rmtree(moved.site.root)
            ssh.CONNECT_S = usual


def quits(node: Node) -> None:
    """End a node's PostgreSQL at once, for nothing of it is kept."""
    if pid := node.supervisor.state("postgresql").pid:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGQUIT)
        ended([process], 20)


@contextmanager
def namespace(found: Hosts) -> Iterator[None]:
    peer, inside = found.link + "p", found.within
    try:
        for command in (
            ["ip", "netns", "add", found.namespace],
            ["ip", "link", "add", found.link, "type", "veth", "peer", "name", peer],
            ["ip", "link", "set", peer, "netns", found.namespace],
            ["ip", "addr", "add", f"{found.here}/24", "dev", found.link],
            ["ip", "link", "set", found.link, "up"],
            [*inside, "ip", "addr", "add", f"{found.there}/24", "dev", peer],
            [*inside, "ip", "link", "set", peer, "up"],
            [*inside, "ip", "link", "set", "lo", "up"],
        ):
            subprocess.run(command, check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", found.namespace], capture_output=True)
        subprocess.run(["ip", "link", "delete", found.link], capture_output=True)


def _move(found: Hosts, folder: Path) -> Site:
    """Let the pair speak over the link: addresses, access rules, passwords for any host, ALPHA reached by ssh."""
    site = found.site
    for name in ("alpha", "beta"):
        data = site.root / name / "data"
        conf = (data / "lab.conf").read_text().replace("listen_addresses = '127.0.0.1'", "listen_addresses = '*'")
        conf = re.sub(r"host=127\.0\.0\.1 port=", f"host={found.there} port=", conf)
        (data / "lab.conf").write_text(conf)
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.213.0.0/16 scram-sha-256\nhost replication all 10.213.0.0/16 scram-sha-256\n")
    for passfile in [site.root / "secrets" / "pgpass", *site.root.glob("*/replication.pgpass")]:
        passfile.write_text(re.sub(r"^127\.0\.0\.1:", "*:", passfile.read_text(), flags=re.MULTILINE))
    config = client(folder, "config", "alpha", found.there, PORT)
    path = settings.parameters() / site.name / "site.yaml"
    content = read_yaml(path)
    content["nodes"]["ALPHA"] |= {"host": found.there, "ssh": {"host": "alpha", "config": str(config)}}
    content["nodes"]["ALPHA"]["postgresql"]["account"] = unprivileged()
    content["nodes"]["BETA"]["host"] = found.here
    for node in content["nodes"].values():
        node.pop("embedding", None)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_site(site.name)


def _streams(alpha: Node) -> None:
    def state() -> object:
        with alpha.session(database="postgres") as connection:
            row = connection.execute("SELECT state FROM pg_stat_replication").fetchone()
        return row and row[0]

    wait.until(state, lambda found: found == "streaming", node="BETA", what="it streams", deadline_s=60)
