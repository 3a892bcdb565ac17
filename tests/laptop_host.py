"""AIR as a host of its own in a network namespace: a real sshd, nothing installed on it yet, and a link that can be cut."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import yaml
from cut_off import PORT, Hosts, namespace, quits
from real_sshd import client, sshd
from tests_support import make, up

from aya_lib import lab as labs
from aya_lib import settings
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.pidfile import end
from aya_lib.node.shell import unprivileged
from aya_lib.site import Site, load_site, read_yaml


@contextmanager
def away(place: Path, name: str) -> Iterator[Hosts]:
    """A pair here, and a laptop that has no cluster yet on the other side of a link. Its host key is not known here; the site
    names its fingerprint. Everything is removed at the end."""
    site = make(place, name)
    up(site)
    labs.down(site)
    shutil.rmtree(site.root / "air" / "data")
    number, folder = settings.lab_ports()[0] // 100 % 200, place / f"{name}-ssh"  # a number of this test process
    found = Hosts(site, f"aya-air-{os.getpid()}", f"ayaw{os.getpid() % 100000}", f"10.214.{number}.1", f"10.214.{number}.2")
    with namespace(found), sshd(folder, found.there, PORT, *found.within):
        moved = replace(found, site=_move(found, folder))
        nodes = open_nodes(moved.site)
        try:
            for node in ("ALPHA", "BETA"):
                nodes[node].supervisor.start("postgresql")
            yield moved
        finally:
            moved.heal()
            nodes["AIR"].shell.close()  # type: ignore[attr-defined]  # a connection that was cut sends again only in its time
            for pair in ("ALPHA", "BETA"):
                quits(nodes[pair])
            if (folder / "known_hosts").exists():  # else nothing was made there
                _end(nodes["AIR"])
            shutil.rmtree(moved.site.root)


def _end(laptop: Node) -> None:
    keeps = laptop.supervisor
    for service in keeps.units:
        keeps.disable(service)
    for service in ("sync", "embedding"):
        if pid := keeps.state(service).pid:
            end(pid, 20)
    quits(laptop)
    laptop.shell.close()  # type: ignore[attr-defined]


def _move(found: Hosts, folder: Path) -> Site:
    """ALPHA listens on the link too, and AIR is reached by ssh, through which its services are reached."""
    site = found.site
    data = site.root / "alpha" / "data"
    conf = (data / "lab.conf").read_text().replace("listen_addresses = '127.0.0.1'", "listen_addresses = '*'")
    (data / "lab.conf").write_text(conf)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 10.214.0.0/16 scram-sha-256\n")
    passfile = site.root / "secrets" / "pgpass"
    passfile.write_text(re.sub(r"^127\.0\.0\.1:", "*:", passfile.read_text(), flags=re.MULTILINE))
    (folder / "known_hosts").unlink()
    config = client(folder, "config", "air", found.there, PORT)
    said = subprocess.run(["ssh-keygen", "-lf", folder / "host.pub"], capture_output=True, text=True, check=True).stdout
    path = settings.parameters() / site.name / "site.yaml"
    content = read_yaml(path)
    content["nodes"]["ALPHA"]["host"] = found.here
    content["nodes"]["AIR"] |= {
        "tunnel": True,
        "ssh": {"host": "air", "config": str(config), "fingerprint": said.split()[1]},
    }
    content["nodes"]["AIR"]["postgresql"]["account"] = unprivileged()
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_site(site.name)
