"""What was saved of an old primary, as its reports say it, and how it is shown."""

from __future__ import annotations

import json
from dataclasses import dataclass

from aya_lib.cluster.server import Files
from aya_lib.node.unseen import Missing
from aya_lib.show import Shown, Table


@dataclass(frozen=True)
class TableSalvaged:
    """``rows``: in ``file`` as JSON lines, with table, key and whole row. ``deleted``: how many were deleted."""

    database: str
    table: str
    rows: int
    deleted: int
    file: str


@dataclass(frozen=True)
class Report:
    """``left``: where the old data directory stood when all was saved; from another position on there is more to save.

    ``untold``: why rows could not be told, so that they are in the WAL or in the old directory only; empty when they could.
    ``definitions``: catalogs that were changed, which are no rows to be entered again; ``prepared``: transactions that only this
    node knows, and that were not decided.
    """

    node: str
    primary: str
    at: str
    system_identifier: str
    timeline: int
    fork: str
    end: str
    left: str
    wal_bytes: int
    segments: tuple[str, ...]
    commits: int
    tables: tuple[TableSalvaged, ...] = ()
    untold: str = ""
    definitions: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


@dataclass(frozen=True, repr=False)
class Salvaged(Shown):
    """One folder. ``report`` None: it was never finished."""

    folder: str
    report: Report | None

    def covers(self, files: Files) -> bool:
        """Whether it holds all that the data directory has now."""
        report = self.report
        here = (files.system_identifier, files.timeline, files.lsn)
        return report is not None and (report.system_identifier, report.timeline, report.left) == here

    def table(self) -> Table:
        report = self.report
        if report is None:
            return Table(f"{self.folder}: not finished", tone="warning")
        rows = tuple((t.database, t.table, str(t.rows), str(t.deleted), t.file) for t in report.tables)
        notes = [
            f"{report.node} left the history of {report.primary} at {report.fork} on timeline {report.timeline}, its WAL ends at"
            f" {report.end}: {report.wal_bytes:,} bytes in {len(report.segments)} segments, {report.commits} committed"
            " transactions",
            f"in {self.folder}",
        ]
        notes += [f"Keys may have been given again on {report.primary} since: compare, then enter what is missing"] * bool(rows)
        notes += [f"Not all rows could be told: {report.untold}"] if report.untold else []
        what = "created, altered, granted or truncated is not saved as rows, and is in the old directory"
        notes += [f"What was {what}: {', '.join(report.definitions)}"] if report.definitions else []
        lost = f"Prepared and not decided, so only in the WAL and in the old directory: {', '.join(report.prepared)}"
        notes += [lost] if report.prepared else []
        title = f"Saved of {report.node} at {report.at[:19]} UTC: {report.rows} rows that {report.primary} never received"
        return Table(
            title,
            ("database", "table", "rows", "deleted", "file"),
            rows,
            tuple(notes),
            "warning" if report.rows or report.untold else "plain",
        )


@dataclass(frozen=True, repr=False)
class Newest(Shown):
    """The last thing that was saved of a node, if anything ever was."""

    salvage: tuple[Salvaged, ...] | Missing

    def table(self) -> Table:
        if not isinstance(self.salvage, tuple):
            return Table(f"What was saved could not be seen: {self.salvage}", tone="unknown")
        return self.salvage[-1].table() if self.salvage else Table("Nothing had to be saved", tone="passed")


def parse(text: str | None) -> Report | None:
    """The report as it was written; None for one that is not there or not whole."""
    try:
        content = json.loads(text or "")
        content |= {name: tuple(content.get(name, ())) for name in ("segments", "definitions", "prepared")}
        content["tables"] = tuple(TableSalvaged(**table) for table in content["tables"])
        return Report(**content)
    except (ValueError, TypeError, KeyError):
        return None
