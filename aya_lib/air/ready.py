"""What the laptop itself says before its daemon starts: the program, the site's file, the model, the way to the primary.

It is asked on the laptop, as the account that runs its services: what works for us need not work for them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from aya_lib import __version__, settings
from aya_lib.cluster import roles
from aya_lib.embedding.files import open_files
from aya_lib.errors import AyaError, CommandFailed
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.shell import Output
from aya_lib.node.units import Home
from aya_lib.node.unseen import Missing, seen
from aya_lib.site import Site

RUN = """
environment=$1 program=$2; shift 2
command -v "$program" >/dev/null || { echo "$program is not there: name the node's aya in site.yaml" >&2; exit 3; }
if [ -r "$environment" ]; then set -a; . "$environment"; set +a; fi
exec env "$@"
"""
REACH_S = 60  # the primary may be away, each node costs its deadline; and Python starts


@dataclass(frozen=True)
class Report:
    """``site``: SHA-256 of the site as it is read there. ``model_error``, ``primary_error``: empty when all is well."""

    version: str
    site: str
    model_error: str
    primary: str
    primary_error: str


def report(site: Site) -> Report:
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
    return Report(__version__, digest(site), model, reached, primary)


def digest(site: Site) -> str:
    """Equal for equal sites, whatever the file's layout and comments. Where things stand on this machine only is left out."""
    content = site.model_dump(mode="json", exclude={"directory": True, "database": {"passfile": True}})
    for node in content["nodes"].values():
        node.pop("ssh")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def look(node: Node) -> Report | Missing:
    """The report of the laptop, from the laptop."""

    def ask() -> Report:
        output = run(node, ["air", "ready", "--json"]).checked()
        try:
            said = json.loads(output.stdout)
            return Report(**{name: said[name] for name in Report.__dataclass_fields__})
        except (ValueError, KeyError):
            raise CommandFailed(node.name, output.argv, output.status, f"not this program's answer: {output.stdout}") from None

    return seen(node.name, "aya air ready", ask)


def run(node: Node, words: Sequence[str], timeout_s: float = REACH_S) -> Output:
    """The ``aya`` of the laptop, as the account of its services and with what their environment file gives them."""
    home = Home(node.site, node.name, node.account or "")
    program = [str(node.wish.aya)] if node.wish.aya else [sys.executable, "-m", "aya_lib"]
    places = [f"AYA_NODE={node.name}"] if node.wish.ssh and node.wish.aya else _as_here(node)
    command = ["sh", "-c", RUN, "sh", str(home.environment), program[0], *places, *program, *words, "--site", _name(node)]
    return node.shell.run(command, timeout_s=timeout_s, account=_account(node))


def _as_here(node: Node) -> list[str]:
    return [f"AYA_NODE={node.name}", f"AYA_PARAMETERS={settings.parameters()}"]


def _name(node: Node) -> str:
    """A lab's services are started with the path of its site."""
    return str(Path(settings.parameters()) / node.site.name / "site.yaml") if not node.wish.aya else node.site.name


def _account(node: Node) -> str | None:
    """A lab's services run under the account that started them; PostgreSQL alone has another."""
    return None if node.wish.supervisor == "process" else node.account


def as_json(found: Report) -> str:
    return json.dumps({"schema": 1, **asdict(found)}, indent=1)
