"""Passwords of a lab and the files through which libpq finds them: a password file and a service file, mode 0600."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from aya_lib import files
from aya_lib.cluster import roles, service_file
from aya_lib.errors import AyaError, UsageError
from aya_lib.node.node import open_nodes
from aya_lib.site import Site

# Of PostgreSQL, and of nothing else: a prefix of conda's has many other programs beside them.
CLIENTS = re.compile(r"pg_\w+|pgbench|psql|(create|drop)(db|user)|(cluster|init|reindex|vacuum)db")


def passfile(site: Site) -> Path:
    """The lab's libpq password file."""
    if site.database.passfile is None:
        raise UsageError(f"site {site.name} has no database.passfile, so it is no lab")
    return site.path(site.database.passfile)


def passwords(site: Site) -> dict[str, str]:
    """Role -> password, made at the first call (192 bits from the system's CSPRNG) and kept in the password file."""
    path = passfile(site)
    if not path.exists():
        roles = (site.database.owner, site.database.application_role, site.database.replication_role)
        made = (f"{site_host(site)}:*:*:{role}:{secrets.token_urlsafe(24)}\n" for role in roles)
        files.write(path, "".join(made), private=True)
    lines = [line.split(":") for line in path.read_text().splitlines()]
    return {fields[3]: fields[4] for fields in lines}


def site_host(site: Site) -> str:
    return site.nodes[site.primary].host


def env(site: Site) -> str:
    """Shell lines to ``eval``: every libpq client then knows ``service=alpha``, ``beta``, ``air`` and ``aya_rag``, and the lab's
    own clients are found, whatever the machine has.

    The nodes' services connect as the owner, ``aya_rag`` (whichever node accepts writes) as the application role.
    """
    if not passfile(site).exists():
        raise AyaError(f"the lab {site.name} is not there", hint=f"Make it: aya lab up --site {site.name}")
    service_file.write(site, roles.agreed(site))
    places = {"PGSERVICEFILE": service_file.path(site), "PGPASSFILE": passfile(site)}
    lines = [f"export {name}={shlex.quote(str(path))}\n" for name, path in places.items()]
    return "".join([*lines, f'export PATH={shlex.quote(str(_programs(site)))}:"$PATH"\n'])


def _programs(site: Site) -> Path:
    """A folder with a way to each of PostgreSQL's programs: called by hand, they need to be told where their libraries are."""
    node = open_nodes(site)[site.primary]
    folder = site.root / "bin"
    there = site.path(node.config.postgresql.bin_directory).iterdir()
    for program in [program for program in there if CLIENTS.fullmatch(program.name)]:
        text = f'#!/bin/sh\nexec {shlex.join(node.command(program.name))} "$@"\n'
        if not (folder / program.name).exists() or (folder / program.name).read_text() != text:
            files.write(folder / program.name, text)
            (folder / program.name).chmod(0o755)
    return folder


def psql(site: Site, node: str, arguments: Sequence[str]) -> NoReturn:
    """Become psql, connected to a node as the owner, in the site's database unless the arguments name another."""
    names = {name.lower(): name for name in site.nodes}
    if node.lower() not in names:
        raise UsageError(f"unknown node '{node}'", hint=f"Allowed are {', '.join(names)}")
    env(site)
    where = open_nodes(site)[names[node.lower()]]
    services = {"PGSERVICEFILE": str(service_file.path(site)), "PGSERVICE": node.lower(), "PGPASSFILE": str(passfile(site))}
    command = where.command("psql", *arguments)
    os.execvpe(command[0], command, {**os.environ, **services})
