"""What a switchback adds to a failover and a rejoin: the roles as configured, and the mode that replication had before."""

from __future__ import annotations

from aya_lib.check import Check, Judged, evaluate, optional, passed_if
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import replication, server
from aya_lib.cluster.overview import Overview
from aya_lib.cluster.standby import Recovery
from aya_lib.cluster.state import BY_FAILOVER
from aya_lib.node.unseen import Unseen
from aya_lib.operations import failover, rejoin, replication_mode
from aya_lib.operations.failover.look import Found as HandOver
from aya_lib.operations.rejoin.look import Rejoin
from aya_lib.operations.replication_mode.look import Found, Request
from aya_lib.site import Site


def preconditions(found: HandOver) -> list[Check]:
    """Those of a planned failover; and the node that becomes the standby again follows without a delay."""
    return [*failover.preconditions(found), *([undelayed(found)] if found.ready and not found.new.writable else [])]


def undelayed(found: HandOver) -> Check:
    """A deliberate delay keeps the second half from ever being seen to be equal: said before, not after it was waited for."""
    name, setting = f"{found.old.name} will follow at once", replication.DELAY
    leader = found.ready.leader if found.ready else Unseen(found.old.name, setting, "not looked at")

    def of(it: Recovery) -> Judged:
        hint = (
            f"As a standby {it.node} would stay behind on purpose, and switchback could not see that it follows. On {it.node}: "
            f"ALTER SYSTEM RESET {setting}; SELECT pg_reload_conf(). Set it again afterwards"
        )
        return passed_if(it.delay_s == 0, f"{setting} = {it.delay_s:g} s", hint)

    check = evaluate(name, f"{setting} = 0", leader, of)
    return check if isinstance(leader, Recovery) else optional([check])[0]


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
