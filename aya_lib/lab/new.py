"""A second lab beside the first: a site of its own, with its own folder and ports."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import yaml

from aya_lib import settings
from aya_lib.errors import SiteError, UsageError
from aya_lib.site import Site, known_sites, load_site, read_yaml


def new(name: str, directory: Path | None = None, port: int | None = None, *, like: str = "lab") -> Site:
    """Write ``parameters/<name>/site.yaml`` after the model of the site ``like``; nothing is started.

    ``port``: the first of the consecutive ports to take; default: a run that is free and that no other site names.
    """
    target = settings.own_parameters() / name / "site.yaml"
    if target.exists():
        raise UsageError(f"there is a site {name} already: {target}", hint="Choose another name")
    content = read_yaml(settings.parameters() / like / "site.yaml")
    content["name"] = name
    content.pop("directory", None)  # the model's own: two labs never share a folder
    if directory is not None:
        content["directory"] = str(directory.absolute())
    places = _places(content)
    first = port if port is not None else _free_run(len(places))
    for offset, place in enumerate(places):
        place["port"] = first + offset
    target.parent.mkdir(parents=True, exist_ok=True)
    described = yaml.safe_dump(content, sort_keys=False)
    target.write_text(f"# A lab beside {like}. `aya lab up --site {name}` starts it.\n{described}")
    try:
        return load_site(name)
    except SiteError:
        target.unlink()
        raise


def _places(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything of the site that has a port, in order: the clusters, then the services."""
    nodes = list(content["nodes"].values())
    return [node["postgresql"] for node in nodes] + [node["embedding"] for node in nodes if node.get("embedding")]


def _free_run(count: int) -> int:
    """The first of ``count`` consecutive ports that are free, and that no site names which happens to be down; where possible
    none that the system itself gives to an outgoing connection."""
    named = {place["port"] for site in known_sites() for place in _places(_described(site)) if "port" in place}
    lowest, highest = settings.lab_ports()
    for avoided in (outgoing(), range(0)):
        for first in range(lowest, highest - count + 2, count):
            if all(port not in named and port not in avoided and _free(port) for port in range(first, first + count)):
                return first
    raise UsageError(f"no run of free ports between {lowest} and {highest}", hint="Name the first one with --port")


def outgoing() -> range:
    """The ports that the system gives to outgoing connections, as Linux says; elsewhere IANA's."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return range(49152, 65536)
    return range(int(first), int(last) + 1)


def _described(site: str) -> dict[str, Any]:
    """What a site's file says; one that is not valid names nothing."""
    try:
        return load_site(site).model_dump()
    except SiteError:
        return {"nodes": {}}


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
