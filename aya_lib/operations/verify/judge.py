"""Proof that the standby follows: marked rows arrive, writes are refused there, and both hold the same rows."""

from __future__ import annotations

from collections.abc import Iterable

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster.application import Application
from aya_lib.cluster.canary import Leftover, Refusal, Visibility
from aya_lib.cluster.contents import Compared
from aya_lib.cluster.judge import application, server
from aya_lib.cluster.judge.overview import stream
from aya_lib.cluster.overview import SiteSeen
from aya_lib.node.unseen import Missing, Planned

READ_ONLY = "25006"  # read_only_sql_transaction, PostgreSQL's appendix A


def roles(found: SiteSeen) -> list[Check]:
    """Who is what, and whether the two belong together."""
    primary, standby = found.primary, found.standby
    return [
        server.not_passed_over(found.site, found.overview),
        server.as_configured(found.site, found.overview),
        server.primary(primary),
        server.standby(standby),
        server.one_primary([primary, standby]),
        server.same_system(primary, standby),
        server.not_diverged(standby, primary),
    ]


def streaming(found: SiteSeen) -> list[Check]:
    """The stream, the slot, and when each side last heard of the other."""
    return stream(found.site, found.primary, found.standby)


def works(found: SiteSeen, tried: Application | Missing) -> list[Check]:
    """The application's role can write and search on the primary."""
    return application.checks(found.site, tried)


def visible(measured: Visibility | Missing) -> Check:
    """Every marked row was seen on the standby within the limit."""

    def rule(rows: Visibility) -> Judged:
        total, arrived = len(rows.milliseconds), len(rows.seen)
        if arrived < total:
            hint = "Is replay paused? Is the link cut? Run restore, then look at the standby's log"
            return passed_if(False, f"{arrived} of {total} within {rows.limit_s:g} s", hint)
        p50, p95, p100 = (rows.percentile(p) or 0 for p in (50, 95, 100))
        return Judged("passed", f"{arrived} of {total}; p50 {p50:.1f} ms, p95 {p95:.1f} ms, max {p100:.1f} ms")

    limit = f"all within {measured.limit_s:g} s" if isinstance(measured, Visibility) else "all in time"
    return evaluate("marked rows arrive", limit, measured, rule)


def refused(refusal: Refusal | Missing) -> Check:
    """An INSERT on the standby is refused because it is read-only, and for no other reason."""

    def rule(said: Refusal) -> Judged:
        hint = f"{said.node} accepts writes: it is a second primary. Stop its clients, then compare the two nodes"
        return passed_if(said.sqlstate == READ_ONLY, f"{said.sqlstate or 'accepted'}: {said.message}", hint)

    return evaluate("a write on the standby is refused", f"SQLSTATE {READ_ONLY}, read-only", refusal, rule)


def equal(compared: Compared | Missing) -> Check:
    """Every table has the same number of rows and the same checksum on both."""

    def rule(both: Compared) -> Judged:
        tables, differing = both.primary.tables, both.differing()
        if not differing:
            counts = ", ".join(f"{name.removeprefix('public.')} {table.rows}" for name, table in tables.items())
            observed = "; ".join([f"{len(tables)} tables equal: {counts} rows", *both.left_out()])
            hint = "See whether they can be read there, or compare them by hand"
            return Judged("warning" if both.uncompared else "passed", observed, hint)
        hint = f"{both.standby.node} is not a copy of {both.primary.node}: run rejoin, which makes it one, before you rely on it"
        return passed_if(False, "; ".join(f"{name}: {both.difference(name)}" for name in differing), hint)

    return evaluate("contents are equal", "same counts and checksums", compared, rule)


def gone(leftovers: Iterable[Leftover | Missing]) -> list[Check]:
    """Nothing of the probe is left on the nodes."""

    def rule(left: Leftover) -> Judged:
        return passed_if(not left.tables, ", ".join(left.tables) or "none left", "The next verify_replication drops them")

    return [
        evaluate(f"marked rows are gone{'' if isinstance(left, Planned) else f' on {left.node}'}", "no probe table", left, rule)
        for left in leftovers
    ]
