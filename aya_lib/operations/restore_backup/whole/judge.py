"""May the whole cluster be restored, is what was restored what it should be, does it serve, and what remains for the others?"""

from __future__ import annotations

from collections.abc import Callable

from aya_lib.backup.look import keeper
from aya_lib.check import Check, Judged, absent, conclude, evaluate, passed_if
from aya_lib.cluster.overview import NodeSeen, SiteSeen
from aya_lib.cluster.server import Cluster, Files
from aya_lib.node.node import Node
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Missing, Planned
from aya_lib.operations.failover.fencing import holds
from aya_lib.operations.restore_backup import aim
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.operations.restore_backup.whole.look import Beside, Whole, incoming, words
from aya_lib.site import Site


def preconditions(found: Whole) -> list[Check]:
    """Nothing is changed unless all of these hold: no server of the pair runs, and there is something to restore, and room."""
    room = found.aim.needs + 1 if isinstance(found.aim, Aim) and (found.ready or found.placed) else found.room
    checks = [
        *aim.checks(found.aim, _system(found), room),
        _is_keeper(found),
        _stopped(found.nodes[found.other.name], found.other),
    ]
    if not found.placed:
        checks.append(_stopped(found.node, found.here))
    return [*checks, holds(found.fencing), _free(found)]


def proven(found: Whole) -> list[Check]:
    """What stands beside was started, and is what was asked for."""
    name, expected = "the restored cluster is proven", "it reached the point, and was looked at"
    if isinstance(found.beside, Missing):
        return [absent(name, expected, found.beside)]
    if found.made is None:
        return [absent(name, expected, Planned("it is not restored yet"))]
    return [Check(name, "passed", expected, words(found.made))]


def serves(found: Whole) -> Callable[[Site, SiteSeen], list[Check]]:
    """The judgement that the restored node accepts writes, on the timeline of the restore, and nobody else does."""

    def judge_it(_: Site, seen: SiteSeen) -> list[Check]:
        here, other = seen.overview.nodes[found.name], seen.overview.nodes[found.other.name]
        wanted = found.made.timeline if found.made else 0

        def of(it: Cluster) -> Judged:
            said = f"{it.role}, timeline {it.timeline}"
            return passed_if(not it.in_recovery and wanted in (0, it.timeline), said, "Look at its log, then run it again")

        expected = f"accepts writes, timeline {wanted}" if wanted else "accepts writes"
        return [
            evaluate(f"{found.name} serves", expected, here.cluster, of),
            _alone(other, found),
        ]

    return judge_it


def remains(found: Whole) -> list[Check]:
    """What the others still need, each with its command."""
    site = found.site
    run = f"aya run {{}} --site {site.name}"
    other, laptop = found.other.name, found.nodes.laptop
    made = f"timeline {found.made.timeline}" if found.made else "the new timeline"
    told = [
        (
            "the standby",
            f"{other} is on another timeline than {made}",
            f"{run.format('rejoin')}; it saves what {other} has alone",
        ),
        ("the next backup", f"those that are there are of before {made}", run.format("backup")),
    ]
    if laptop:
        line = "what it has of after that point is reconciled at its next round"
        told.append((f"the laptop {laptop.name}", line, run.format("air_sync_check")))
    return [Check(f"{name} follows", "warning", "of the new timeline", line, hint, required=False) for name, line, hint in told]


def _alone(other: NodeSeen, found: Whole) -> Check:
    name, known = "nobody else accepts writes", found.overview.fenced(other.name) or found.fencing.why
    if other.writable:
        return Check(name, "failed", "one primary", f"{other.name} accepts writes too", f"Stop {other.name}")
    return Check(name, "passed", "one primary", f"{other.name}: {known}")


def _system(found: Whole) -> str | None:
    """The identifier of the cluster that there is, as one of the data directories says."""
    known = [node.files.system_identifier for node in (found.here, found.other) if isinstance(node.files, Files)]
    return known[0] if known else None


def _is_keeper(found: Whole) -> Check:
    own = keeper(found.nodes).name
    hint = f"Restore on {own} (node = {own}), run rejoin for {found.name}, and then switchback"
    return conclude("the backups are on the same machine", own, passed_if(found.name == own, found.name), hint)


def _stopped(node: Node, it: NodeSeen) -> Check:
    """No server runs there: neither restored over, nor left to serve beside."""
    stop = "; ".join(node.supervisor.describe(action, "postgresql") for action in ("disable", "stop"))
    name, expected, hint = f"no server runs on {node.name}", "it is stopped", f"Stop it, if this is what you want: {stop}"
    if isinstance(it.cluster, Cluster):
        return Check(name, "failed", expected, f"a {it.cluster.role} answers", hint)

    def of(state: ServiceState) -> Judged:
        return passed_if(state.status not in ("running", "frozen"), str(state), hint)

    if isinstance(it.process, Missing) and not isinstance(it.process, ServiceState):
        unknown = absent(name, expected, it.process, "Fence it: confirmed_by = who switched it off")
        return Check(name, "warning", expected, unknown.observed, unknown.hint)  # whether it is fenced decides
    return evaluate(name, expected, it.process, of)


def _free(found: Whole) -> Check:
    where = incoming(found.node)

    def of(beside: Beside) -> Judged:
        return passed_if(not beside.foreign, "it holds files that are not ours" if beside.foreign else "free, or ours")

    return evaluate(f"{where.name} is free", "no such folder, or one of ours", found.beside, of, hint=f"Move {where} away")
