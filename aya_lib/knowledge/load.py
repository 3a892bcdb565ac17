"""The runbook ingest: what lies there and who would load it, the plan, the loading, and what is there afterwards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aya_lib.check import Check
from aya_lib.errors import AyaError
from aya_lib.knowledge import judge, loaded, provenance, ready
from aya_lib.knowledge.discover import Sources, discover
from aya_lib.knowledge.ingest import bar, ingest
from aya_lib.knowledge.ready import Ready
from aya_lib.knowledge.report import Report
from aya_lib.node.node import Node, Nodes
from aya_lib.plan.actions import CHECKPOINT_S, Sql
from aya_lib.plan.change import Plan, change
from aya_lib.schema import knowledge as schema
from aya_lib.show import Note, Shown, Table

look_loaded, checks = loaded.look, judge.loaded


@dataclass(frozen=True, repr=False)
class Before(Shown):
    """The files below the paths as they were given, and whether the knowledge base is ready for them."""

    paths: tuple[str, ...]
    sources: Sources
    ready: Ready

    def table(self) -> Table:
        return self.sources.table()


@dataclass
class Load:
    """Load documents. ``report`` is there once it was done."""

    nodes: Nodes
    paths: tuple[str, ...]
    category: str = ""
    prune: bool = False
    report: Report | None = field(default=None, compare=False)

    def command(self, node: Node) -> str:
        words = ["aya ingest", *self.paths, "--site", node.site.name]
        words += ["--category", self.category] if self.category else []
        return " ".join([*words, *(["--prune"] if self.prune else [])])

    def run(self, node: Node) -> None:
        paths = loaded.absolute(self.paths)
        with bar(file=sys.stdout, delay=5, mininterval=0.5) as progress:
            self.report = ingest(self.nodes, paths, category=self.category or None, prune=self.prune, progress=progress)
        if self.report.tally.chunks:
            Sql("CHECKPOINT", database=None, deadline_s=CHECKPOINT_S).run(node)  # the check-up reads the index from the disk


def look(nodes: Nodes, paths: Sequence[str]) -> Before:
    """What lies below the paths, and what is ready. :class:`UsageError` for a path that is not there."""
    return Before(tuple(paths), discover(loaded.absolute(paths)), ready.look(nodes))


def preconditions(before: Before) -> list[Check]:
    return judge.preconditions(before.ready)


def plan_schema(nodes: Nodes, before: Before) -> Plan:
    """What the schema lacks. :class:`AyaError` when it could not be read."""
    node, state = before.ready.node, before.ready.schema
    if not isinstance(node, str) or not isinstance(state, schema.SchemaState):
        raise AyaError(f"{node}: the schema could not be read: {state}", hint="Run restore")
    recorded = before.ready.recorded
    again = "Embed the chunks again, with their titles and headings"
    of_before = isinstance(recorded, provenance.Recorded) and recorded.of_before
    added = (change(nodes[node], again, provenance.EmbedAgain(nodes)),) if of_before else ()
    steps = schema.plan(nodes[node], state)
    return replace(steps, changes=(*steps.changes, *added))


def plan(nodes: Nodes, before: Before, category: str = "", prune: bool = False) -> Plan:
    """One change: what it writes is whole at every moment, and the same again changes nothing."""
    title = f"Load what is new or changed in {len(before.sources.files)} files"
    title += ", delete documents whose files are gone" if prune else ""
    loading = Load(nodes, before.paths, category, prune)
    return Plan("What ingest loads", (change(nodes[str(before.ready.node)], title, loading, destroys=prune),), unwind=False)


def report(plan: Plan) -> Report | Note:
    """What the loading of a plan did; a dry run does nothing."""
    reports = [step.action.report for step in plan.changes if isinstance(step.action, Load) and step.action.report]
    return reports[0] if reports else Note("Nothing was loaded.", "planned")


def written(report: Report | Note) -> int:
    """Chunks that were written."""
    return report.tally.chunks if isinstance(report, Report) else 0
