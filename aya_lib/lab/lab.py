"""A lab: up, down, reset, status. Everything can be killed half-way and run again."""

from __future__ import annotations

import errno
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil

from aya_lib.cluster import roles, server, services, state
from aya_lib.cluster.server import Cluster
from aya_lib.cluster.services import Health
from aya_lib.errors import AyaError, DeadlinePassed, UsageError
from aya_lib.lab import access, binaries, clusters, documents
from aya_lib.lab.new import outgoing
from aya_lib.node import wait
from aya_lib.node.listeners import local_listener
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.pidfile import end, ended, thaw
from aya_lib.node.unseen import Starting, seen
from aya_lib.site import LAB_MARKER, Site

Progress = Callable[[str], None]
CHECKPOINT_S = 60.0
PORT_S = 5.0


def up(site: Site, progress: Progress = lambda line: None, *, embedding: bool = True) -> None:
    """Start the lab, making first what is not there; harmless when all of it runs.

    Raises :class:`AyaError` before anything is changed when a port is held by somebody else.
    """
    nodes = open_nodes(_lab(site))
    prefix = binaries.prefix()
    for node in nodes.values():
        _made_for(node)
        _ports_are_ours(node, embedding)
    _folder(site, prefix)
    known = state.read(site)
    primary = nodes[roles.agreed(site, known)]
    standby = next(nodes[name] for name in site.pair if name != primary.name)
    others = [node for name, node in nodes.items() if name not in site.pair]
    with ThreadPoolExecutor() as pool:
        service = pool.submit(_start_service, primary, progress) if embedding else None
        waiting = [pool.submit(_start_alone, node, progress) for node in [*others, primary]]
        for future in waiting:
            future.result()
        if standby.name in known.fenced:
            progress(f"{standby.name}: fenced by a failover, not started. Run rejoin")
        else:
            _start_standby(standby, primary, progress)
        if service:
            service.result()
    _fill([primary, *others], primary.embedding_url if embedding else None, progress)
    if embedding:
        _wait_until_healthy(primary, progress)


def down(site: Site) -> None:
    """Stop everything of the lab, frozen processes too. One that does not stop in order is ended, and holds up no other; raises
    with those that are left."""
    nodes = open_nodes(_lab(site))
    for process in _processes(site):
        thaw(process.pid)
    for name in reversed(list(nodes)):
        keeps = nodes[name].supervisor
        for service in sorted(keeps.units, key=lambda service: service == "postgresql"):  # what uses it first
            if service != "postgresql" or nodes[name].data_directory.exists():
                with suppress(Exception):  # whatever the reason is: below it is ended by its PID
                    keeps.stop(service)
    for process in _processes(site):
        end(process.pid, site.deadlines.command_s)
    if left := _processes(site):
        named = "; ".join(f"PID {process.pid}: {' '.join(process.info['cmdline'])[:100]}" for process in left)
        raise AyaError(f"processes of the lab {site.name} are left: {named}", hint="End them, or see why they cannot be ended")


def reset(site: Site, progress: Progress = lambda line: None, *, embedding: bool = True) -> None:
    """Make the lab anew: down, delete its folder, up. The running embedding service is kept."""
    delete(site)
    up(site, progress, embedding=embedding)


def delete(site: Site) -> None:
    """End the lab's processes at once, for nothing of it is kept, and delete its folder."""
    if _lab(site).root.exists() and not (site.root / LAB_MARKER).exists():
        raise UsageError(f"{site.root} has no {LAB_MARKER}: it was not made by aya lab up and is not deleted")
    processes = _processes(site)
    for process in sorted(processes, key=_is_server):  # the keepers first, or they would start the servers again
        with suppress(psutil.NoSuchProcess):
            thaw(process.pid)
            process.send_signal(signal.SIGQUIT if _is_server(process) else signal.SIGKILL)
    ended(processes, site.deadlines.command_s)
    down(site)
    if site.root.exists():
        shutil.rmtree(site.root)


def _lab(site: Site) -> Site:
    if not site.is_lab:
        raise UsageError(f"site {site.name} is not a lab: only sites whose nodes are processes of this machine are")
    return site


def _folder(site: Site, prefix: Path) -> None:
    if site.root.exists() and not (site.root / LAB_MARKER).exists() and any(site.root.iterdir()):
        raise UsageError(f"{site.root} is not empty and was not made by aya lab up", hint="Set another directory")
    site.root.mkdir(parents=True, exist_ok=True)
    site.root.chmod(0o755)
    (site.root / LAB_MARKER).touch()
    link = site.root / "postgresql"
    if not link.is_symlink():
        link.symlink_to(prefix)
    log = site.root / "log"
    log.mkdir(exist_ok=True)
    log.chmod(0o1777)
    access.passwords(site)


def _ports_are_ours(node: Node, embedding: bool) -> None:
    config = node.config
    ports = {"postgresql": config.postgresql.port} | (
        {"embedding": config.embedding.port} if embedding and config.embedding else {}
    )
    for service, port in ports.items():
        with socket.socket() as probe:  # fast for the usual case: nobody is there
            if probe.connect_ex((config.host, port)) != 0:
                _until_free(node, service, port)
                continue
        holder = local_listener(node.shell, port)
        made = node.data_directory.exists() or service == "embedding"
        if holder and not (made and node.supervisor.state(service).pid == holder.pid):
            line = f"port {port}, meant for {node.name}'s {service}, is held by PID {holder.pid or 'unknown'}: {holder.command}"
            raise AyaError(line, hint="Stop that process, or make a lab on other ports: aya lab new NAME --port PORT")


def _until_free(node: Node, service: str, port: int) -> None:
    """An outgoing connection of any program may have the port for a while: wait until it can be listened on."""

    def free() -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((node.config.host, port))
            except OSError as error:
                return error.errno != errno.EADDRINUSE
            return True

    try:
        wait.until(free, bool, node=node.name, what=f"port {port} is free", deadline_s=PORT_S)
    except DeadlinePassed:
        line = f"port {port}, meant for {node.name}'s {service}, is that of somebody's outgoing connection"
        raise AyaError(line, hint=f"Try again, or take ports outside {outgoing()}: aya lab new NAME --port PORT") from None


def _made_for(node: Node) -> None:
    """:class:`UsageError` when the cluster was made for another port than the site says now."""
    settings = node.data_directory / "lab.conf"
    found = re.search(r"^port = '(\d+)'", settings.read_text(), re.MULTILINE) if settings.exists() else None
    if found and int(found[1]) != node.config.postgresql.port:
        line = f"{node.name} was made for port {found[1]}, and site.yaml says {node.config.postgresql.port} now"
        raise UsageError(line, hint=f"Make the lab anew, aya lab reset --site {node.site.name}, or put the port back")


def _start_alone(node: Node, progress: Progress) -> None:
    made = not node.data_directory.exists()
    clusters.make(node)
    running = node.supervisor.state("postgresql").status == "running"
    node.supervisor.start("postgresql")
    found = _accepting(node)
    if not found.in_recovery:
        clusters.populate(node, replicated=node.name in node.site.pair)
    if not running:
        progress(f"{node.name}: PostgreSQL {'made and ' if made else ''}started, port {node.config.postgresql.port}")


def _accepting(node: Node) -> Cluster:
    """The server once it takes sessions: one that a killed run had just started may still be in crash recovery."""

    def ask() -> Cluster:
        with node.session(database="postgres") as connection:
            return server.read(node.name, connection)

    found = wait.until(
        lambda: seen(node.name, "SQL", ask),
        lambda found: not isinstance(found, Starting),
        node=node.name,
        what="PostgreSQL takes sessions",
        deadline_s=node.site.deadlines.start_s,
    )
    if not isinstance(found, Cluster):
        raise AyaError(f"{node.name} cannot be asked: {found}")
    return found


def _start_standby(node: Node, primary: Node, progress: Progress) -> None:
    made = not node.data_directory.exists()
    clusters.clone(node, primary)
    if not (node.data_directory / "standby.signal").exists():
        if node.supervisor.state("postgresql").status == "running":
            return
        hint = f"It would start as a second primary. aya lab reset --site {node.site.name} makes the lab anew"
        raise AyaError(f"{node.name} has no standby.signal in {node.data_directory}", hint=hint)
    if node.supervisor.state("postgresql").status != "running":
        node.supervisor.start("postgresql")
        progress(f"{node.name}: standby {'cloned and ' if made else ''}started, port {node.config.postgresql.port}")


def _start_service(node: Node, progress: Progress) -> None:
    if node.supervisor.state("embedding").status != "running":
        node.supervisor.start("embedding")
        progress(f"{node.name}: embedding service started, loading its model")


def _fill(nodes: list[Node], url: str | None, progress: Progress) -> None:
    """Load the documents where none are, and have them on disk; without a service and without vectors in the cache they stay
    out."""
    empty = [node for node in nodes if not _accepting(node).in_recovery and documents.missing(node)]
    if not empty:
        return
    vectors = documents.vectors(nodes[0].site, None)
    if vectors is None and url:
        _wait_until_healthy(nodes[0], progress)
        vectors = documents.vectors(nodes[0].site, url)
    if vectors is None:
        return
    for node in empty:
        documents.load(node, vectors)
        with node.session(write=True, deadline_s=CHECKPOINT_S) as connection:
            connection.execute("CHECKPOINT")  # the pages of a vector index are looked at on disk
        progress(f"{node.name}: {len(list(documents.shipped()))} documents loaded, {len(vectors)} chunks with embeddings")


def _wait_until_healthy(node: Node, progress: Progress) -> None:
    started = time.monotonic()
    health = wait.until(
        lambda: services.look_health(node, str(node.embedding_url)),
        lambda health: isinstance(health, Health) and health.status in ("healthy", "failed"),
        node=node.name,
        what="the embedding service is healthy",
        deadline_s=node.site.deadlines.start_s,
        poll_s=0.1,
    )
    if isinstance(health, Health) and health.status == "failed":
        raise AyaError(f"{node.name}: the embedding service cannot load its model: {health.error}")
    if time.monotonic() - started > 0.5:
        progress(f"{node.name}: embedding service healthy")


def _is_server(process: psutil.Process) -> bool:
    """Whether it is a PostgreSQL server, which frees the memory that it shares when it is told to end by SIGQUIT."""
    return Path((process.info["cmdline"] or [""])[0]).name == "postgres"


def _processes(site: Site) -> list[psutil.Process]:
    """Processes whose command line names the lab's folder or whose parent's does, and those that faults started."""
    root = str(site.root)
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = process.info["cmdline"] or []
        marked = (process.info["environ"] or {}).get("AYA_LAB_FAULT") == root
        if marked or (len(words) > 2 and "-D" in words and any(word.startswith(root + "/") for word in words)):
            found.append(process)
    return found
