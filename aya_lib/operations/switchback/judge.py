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
    roles = server.as_configured(site, seen)
    strict = Check(roles.name, "failed" if roles.status == "warning" else roles.status, roles.expected, roles.observed)
    return [*(check for check in glance.pair(site, seen) if check.name != roles.name), strict]


def mode_before(seen: Found, by: str) -> Request:
    """The mode that held before a failover degraded it; else the one that was applied last; else as configured."""
    known = seen.overview.state
    degraded = known.mode == "degraded" and (known.mode_by or "").startswith(BY_FAILOVER)
    return replication_mode.request(seen.site, "synchronous" if degraded else known.mode or "", by=by, why="switchback")
