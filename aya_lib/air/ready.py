"""What the laptop itself says before its daemon starts: the program, the site's file, the model, the way to the primary.

It is asked on the laptop, as the account that runs its services: what works for us need not work for them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from aya_lib import __version__, settings
from aya_lib.cluster import roles
from aya_lib.embedding.files import open_files
from aya_lib.errors import AyaError, CommandFailed
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.shell import Output
from aya_lib.node.unseen import Missing, seen
from aya_lib.operations.autostart.units import Home
from aya_lib.site import Site

RUN = """
environment=$1 program=$2; shift 2
command -v "$program" >/dev/null || { echo "$program is not there: name the node's aya in site.yaml" >&2; exit 3; }
if [ -r "$environment" ]; then set -a; . "$environment"; set +a; fi
exec env "$@"
"""
REACH_S = 60  # the primary may be away, each node costs its deadline; and Python starts


@dataclass(frozen=True)
class Readiness:
    """``site``: SHA-256 of the site as it is read there. ``model_error``, ``primary_error``: empty when all is well."""

    version: str
    site: str
    model_error: str
    primary: str
    primary_error: str


def report(site: Site) -> Readiness:
    """Of this machine."""
    model = primary = reached = ""
    try:
        open_files(site.embedding)
    except AyaError as error:
        model = str(error)
    try:
        reached = roles.primary(open_nodes(site)).name
    except AyaError as error:
        primary = str(error)
    return Readiness(__version__, digest(site), model, reached, primary)


def digest(site: Site) -> str:
    """Equal for equal sites, whatever the file's layout and comments. Where things stand on this machine only is left out."""
    content = site.model_dump(mode="json", exclude={"directory": True, "database": {"passfile": True}})
    for node in content["nodes"].values():
        node.pop("ssh")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def look(node: Node) -> Readiness | Missing:
    """The report of the laptop, from the laptop."""

    def ask() -> Readiness:
        output = run(node, ["air", "ready", "--json"]).checked()
        try:
            printed = json.loads(output.stdout)
            return Readiness(**{name: printed[name] for name in Readiness.__dataclass_fields__})
        except (ValueError, KeyError):
            raise CommandFailed(node.name, output.argv, output.status, f"not this program's answer: {output.stdout}") from None

    return seen(node.name, "aya air ready", ask)


def run(node: Node, words: Sequence[str], timeout_s: float = REACH_S) -> Output:
    """The ``aya`` of the laptop, as the account of its services and with what their environment file gives them. One of this
    machine, as in a lab, has the parameters from here, and the account that started it: PostgreSQL alone has another."""
    home, own, parameters = Home(node.site, node.name, node.account or ""), node.config.aya, settings.parameters()
    program = [str(own)] if own else [sys.executable, "-m", "aya_lib"]
    places = [f"AYA_NODE={node.name}", *([] if node.config.ssh and own else [f"AYA_PARAMETERS={parameters}"])]
    site = node.site.name if own else str(parameters / node.site.name / "site.yaml")
    command = ["sh", "-c", RUN, "sh", str(home.environment), program[0], *places, *program, *words, "--site", site]
    account = None if node.config.supervisor == "process" else node.account
    return node.shell.run(command, timeout_s=timeout_s, account=account)
