"""Small pieces for tests that break a pair: whether it streams, its processes, and another config for its site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import yaml

from aya_lib import settings
from aya_lib.cluster import overview
from aya_lib.node import wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.pidfile import living
from aya_lib.site import Site, load_site, read_yaml


def reconfigured(site: Site, change: Callable[[dict[str, Any]], object]) -> Site:
    """The site with its ``site.yaml`` changed."""
    path = settings.parameters() / site.name / "site.yaml"
    content = read_yaml(path)
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_site(site.name)


def streaming(site: Site) -> None:
    """Wait until ALPHA sends one stream, to BETA."""
    alpha = open_nodes(site)["ALPHA"]
    wait.until(
        lambda: overview.look_node(alpha).sender,
        lambda sender: [stream.state for stream in getattr(sender, "streams", ())] == ["streaming"],
        node="BETA",
        what="it streams",
        deadline_s=60,
    )


def family(node: Node) -> list[psutil.Process]:
    """The node's postmaster, and its children."""
    pid = node.supervisor.state("postgresql").pid
    assert pid is not None
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def kill(node: Node) -> int:
    """SIGKILL of the postmaster, whose PID it gives; its children end by themselves. One that is not buried yet is as dead."""
    members = family(node)
    members[0].kill()
    wait.until(
        lambda: [member.pid for member in members if living(member.pid)],
        lambda alive: not alive,
        node=node.name,
        what="its processes are gone",
        deadline_s=60,
    )
    return members[0].pid


def freeze(node: Node) -> list[psutil.Process]:
    members = family(node)
    for member in members:
        member.suspend()
    return members


def walreceiver(node: Node) -> psutil.Process:
    return next(member for member in family(node) if "walreceiver" in " ".join(member.cmdline()))


@contextmanager
def deaf(node: Node) -> Iterator[None]:
    """The standby's walreceiver is stopped while the block lasts: it takes nothing."""
    receiver = walreceiver(node)
    receiver.suspend()
    try:
        yield
    finally:
        receiver.resume()
