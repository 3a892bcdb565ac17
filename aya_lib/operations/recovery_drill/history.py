"""What drills found, a line of JSON each, beside the backups: it survives the loss of the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from aya_lib.backup.look import folder
from aya_lib.node.node import Node
from aya_lib.node.shell import read

FILE = "drills.jsonl"
ADD = 'umask 077; cat >> "$1" && sync'


@dataclass(frozen=True)
class Drill:
    """``phases``: name -> seconds. ``bytes``: of the restored data directory. ``tables``: how many were equal to the mark;
    ``differing``: differences in words; ``unsaid``: why nothing could be compared. ``rows``: in all tables that were restored.
    ``found``: of the mark's nearest neighbours, how many a search found, of how many. ``fault``: why it ended too early."""

    at: str
    backup: str
    target: str
    light: bool
    phases: Mapping[str, float]
    bytes: int = 0
    tables: int = 0
    rows: int = 0
    differing: tuple[str, ...] = ()
    unsaid: str = ""
    found: tuple[int, int] | None = None
    fault: str = ""

    @property
    def seconds(self) -> float:
        """From the first look at the backup to the answer: the recovery time (RTO) that this machine reaches."""
        return sum(self.phases.values())


def file(keeper: Node) -> Path:
    return folder(keeper.site) / FILE


def add(keeper: Node, drill: Drill) -> None:
    """Append a line; a line that a kill cut off is passed over by :func:`past`."""
    words = ["sh", "-c", ADD, "sh", str(file(keeper))]
    keeper.shell.run(words, stdin=f"\n{json.dumps(asdict(drill))}\n", account=keeper.account).checked()


def past(keeper: Node) -> tuple[Drill, ...]:
    """All drills, oldest first."""
    return parse(read(keeper.shell, file(keeper), account=keeper.account) or "")


def parse(text: str) -> tuple[Drill, ...]:
    """Lines that cannot be read are passed over."""
    found = []
    for line in text.splitlines():
        try:
            one = json.loads(line)
            near = tuple(one["found"]) if one.get("found") else None
            found.append(Drill(**{**one, "found": near, "differing": tuple(one["differing"])}))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return tuple(found)
