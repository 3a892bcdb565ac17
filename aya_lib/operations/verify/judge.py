"""Proof that the standby follows: marked rows arrive, writes are refused there, and both hold the same rows."""

from __future__ import annotations

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster.canary import Leftover, Refusal, Visibility
from aya_lib.cluster.contents import Compared
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import server
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.node.unseen import Missing, Planned
from aya_lib.site import Site

READ_ONLY = "25006"  # read_only_sql_transaction, PostgreSQL's appendix A


def pair(seen: Overview, site: Site) -> tuple[NodeSeen, NodeSeen]:
    """The primary and the standby as they are; as wished where that could not be seen."""
    return seen.pair(site)


def roles(site: Site, seen: Overview) -> list[Check]:
    """Who is what, and whether the two belong together."""
    primary, standby = pair(seen, site)
    return [
        server.not_passed_over(site, seen),
        server.as_configured(site, seen),
        server.primary(primary),
        server.standby(standby),
        server.one_primary([primary, standby]),
        server.same_system(primary, standby),
        server.not_diverged(standby, primary),
    ]


def streaming(site: Site, seen: Overview) -> list[Check]:
    """The stream, the slot, and when each side last heard of the other."""
    return glance.stream(site, *pair(seen, site))


def visible(measured: Visibility | Missing) -> Check:
    """Every marked row was seen on the standby within the limit."""

    def of(found: Visibility) -> Judged:
        total, arrived = len(found.milliseconds), len(found.seen)
        if arrived < total:
            hint = "Is replay paused? Is the link cut? Run restore, then look at the standby's log"
            return passed_if(False, f"{arrived} of {total} within {found.limit_s:g} s", hint)
        p50, p95, p100 = (found.percentile(p) or 0 for p in (50, 95, 100))
        return Judged("passed", f"{arrived} of {total}; p50 {p50:.1f} ms, p95 {p95:.1f} ms, max {p100:.1f} ms")

    limit = f"all within {measured.limit_s:g} s" if isinstance(measured, Visibility) else "all in time"
    return evaluate("marked rows arrive", limit, measured, of)


def refused(found: Refusal | Missing) -> Check:
    """An INSERT on the standby is refused because it is read-only, and for no other reason."""

    def of(seen: Refusal) -> Judged:
        hint = f"{seen.node} accepts writes: it is a second primary. Stop its clients, then compare the two nodes"
        return passed_if(seen.sqlstate == READ_ONLY, f"{seen.sqlstate or 'accepted'}: {seen.message}", hint)

    return evaluate("a write on the standby is refused", f"SQLSTATE {READ_ONLY}, read-only", found, of)


def equal(compared: Compared | Missing) -> Check:
    """Every table has the same number of rows and the same checksum on both."""

    def of(found: Compared) -> Judged:
        differing = found.differing()
        tables = found.primary.tables
        if not differing:
            told = ", ".join(f"{name.removeprefix('public.')} {table.rows}" for name, table in tables.items())
            return Judged("passed", f"{len(tables)} tables equal: {told} rows")
        told = "; ".join(f"{name}: {_rows(found, name)}" for name in differing)
        hint = (
            f"{found.standby.node} is not a copy of {found.primary.node}: make it anew with pg_basebackup before you rely on it"
        )
        return passed_if(False, told, hint)

    return evaluate("contents are equal", "same counts and checksums", compared, of)


def gone(found: list[Leftover | Missing]) -> list[Check]:
    """Nothing of the probe is left on the nodes."""
    return [_gone(one) for one in found]


def _gone(found: Leftover | Missing) -> Check:

    def of(seen: Leftover) -> Judged:
        return passed_if(not seen.tables, ", ".join(seen.tables) or "none left", "The next verify_replication drops them")

    where = "" if isinstance(found, Planned) else f" on {found.node}"
    return evaluate(f"marked rows are gone{where}", "no probe table", found, of)


def _rows(found: Compared, name: str) -> str:
    one, two = found.primary.tables.get(name), found.standby.tables.get(name)
    if one is None or two is None:
        return f"only on {found.primary.node if one else found.standby.node}"
    if one.rows == two.rows:
        return f"{one.rows} rows on both, checksums differ"
    return f"{one.rows} rows on {found.primary.node}, {two.rows} on {found.standby.node}"
