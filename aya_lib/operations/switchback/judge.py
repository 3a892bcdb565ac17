"""What a switchback adds to a failover and a rejoin: the roles as configured, and the mode that replication had before."""

from __future__ import annotations

from aya_lib.check import Check
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import server
from aya_lib.cluster.overview import Overview
from aya_lib.cluster.state import BY_FAILOVER
from aya_lib.operations import rejoin, replication_mode
from aya_lib.operations.rejoin.look import Rejoin
from aya_lib.operations.replication_mode.look import Found, Request
from aya_lib.site import Site


def may_return(seen: Rejoin, *, later: bool = False) -> list[Check]:
    """The preconditions of the second half. ``later``: a dry run, in which the roles have not changed yet."""
    return [] if later else rejoin.preconditions(seen)


def as_configured(site: Site, seen: Overview) -> list[Check]:
    """Everything that a healthy site shows, and the node that site.yaml names as primary is it."""
    wished = server.as_configured(site, seen)
    strict = Check(wished.name, "failed" if wished.status == "warning" else wished.status, wished.expected, wished.observed)
    return [*(check for check in glance.pair(site, seen) if check.name != wished.name), strict]


def mode_before(seen: Found, by: str) -> Request:
    """The mode that held before a failover degraded it; else the one that was applied last; else as the site wishes."""
    known = seen.overview.state
    degraded = known.mode == "degraded" and (known.mode_by or "").startswith(BY_FAILOVER)
    return replication_mode.request(seen.site, "synchronous" if degraded else known.mode or "", by=by, why="switchback")
