"""What runbooks agreed on and no server can tell: who was made the primary, who is fenced, how replication was meant.

Kept in ``standing.json`` below the site's folder, on the machine from which the runbooks run; a node that can be reached
carries its fence also itself, as ``aya.fenced`` in its data directory. A server's own word goes before this file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from aya_lib import files
from aya_lib.errors import SiteError
from aya_lib.site import Site

BY_FAILOVER = "failover"  # how mode_by begins where a failover, not a person, degraded the mode
MARK = "aya.fenced"  # in a fenced node's data directory
Mode = Literal["asynchronous", "synchronous", "degraded"]


@dataclass(frozen=True)
class Fence:
    """A node that must not be started as a primary. ``way``: stopped, confirmed, synchronous or none; what it guarantees
    stands in :data:`aya_lib.operations.failover.fencing.METHODS`. ``timeline`` and ``lsn``: where the node was left behind, if
    known."""

    node: str
    since: str
    by: str
    way: str
    why: str
    timeline: int | None = None
    lsn: str | None = None

    def __str__(self) -> str:
        return f"{self.since} by {self.by or 'nobody named'} ({self.way}): {self.why}"


@dataclass(frozen=True)
class State:
    """``primary``: the node that a failover made the primary; None: as configured. ``mode``: as last applied and
    verified; None: never. ``under_way``: a failover or rejoin that began and has not ended."""

    primary: str | None = None
    fenced: Mapping[str, Fence] = field(default_factory=dict)
    mode: Mode | None = None
    mode_since: str | None = None
    mode_by: str | None = None
    under_way: Mapping[str, Any] | None = None


def path(site: Site) -> Path:
    return site.root / "standing.json"


def log_path(site: Site) -> Path:
    """The failover log: one JSON document a line, the newest last."""
    return site.root / "failover.jsonl"


def read(site: Site) -> State:
    """The site's state; an empty one when there is none yet. :class:`SiteError` when the file is damaged."""
    try:
        content = json.loads(path(site).read_text(encoding="utf-8"))
        fenced = {name: Fence(**fence) for name, fence in content.pop("fenced", {}).items()}
        return State(**content, fenced=fenced)
    except FileNotFoundError:
        return State()
    except (ValueError, TypeError, AttributeError) as error:
        hint = "It says who is fenced: look at it, mend it or move it away, and see who accepts writes before anything is started"
        raise SiteError(f"{path(site)} cannot be understood: {error}", hint=hint) from None


def given_up(site: Site, since: str) -> str:
    """The failover that was begun after ``since`` (a :func:`stamp`), for people; empty when none was."""
    known = read(site)
    began = known.under_way or {}
    if began.get("kind") in ("planned", "emergency") and began["began"] > since:
        return f"{began['old']} is given up for {began['new']}, since {began['began']} by {began['by'] or 'nobody named'}"
    return next((f"{mark.node} was given up {mark}" for mark in known.fenced.values() if mark.since > since), "")


def change(site: Site, **changes: Any) -> State:
    """Change fields of the state; the file is replaced whole, so that a kill leaves the old or the new one."""
    return _become(site, lambda known: replace(known, **changes))


def fence(site: Site, mark: Fence) -> None:
    """Record that a node is fenced."""
    _become(site, lambda known: replace(known, fenced={**known.fenced, mark.node: mark}))


def unfence(site: Site, node: str) -> None:
    """Forget a node's fence; harmless when there is none."""
    _become(site, lambda known: replace(known, fenced={name: mark for name, mark in known.fenced.items() if name != node}))


def log(site: Site, entry: Mapping[str, Any]) -> None:
    """Add an entry to the failover log."""
    with _locked(site), log_path(site).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"at": stamp(), **entry}, default=str, ensure_ascii=False) + "\n")


def stamp(at: datetime | None = None) -> str:
    """A time as the state and the log write it, UTC; None: now."""
    return f"{at or datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _become(site: Site, other: Callable[[State], State]) -> State:
    with _locked(site):
        changed = other(read(site))
        files.write(path(site), json.dumps(asdict(changed), indent=1, ensure_ascii=False) + "\n")
    return changed


def _locked(site: Site) -> FileLock:
    site.root.mkdir(parents=True, exist_ok=True)
    return FileLock(str(path(site)) + ".lock", timeout=10)
