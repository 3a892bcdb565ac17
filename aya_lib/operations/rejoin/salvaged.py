"""What a rejoin saved of an old primary: WAL and rows that the new one never received, with a report of each."""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import dataclass
from pathlib import Path

from aya_lib.cluster.server import Files
from aya_lib.node.node import Node
from aya_lib.node.shell import read
from aya_lib.node.unseen import Missing
from aya_lib.show import Shown, Table

REPORT = "report.json"  # written last: a folder without it was left by a killed run


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
        notes += [f"Not all rows could be told: {report.untold}"] if report.untold else []
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


def place(node: Node) -> Path:
    """Below the site's folder for a node of this machine; beside the data directory on another, or under another account."""
    own = node.wish.ssh is None and (os.geteuid() == 0 or node.account in (None, getpass.getuser()))
    return node.site.root / "saved" if own else node.data_directory.parent / "saved"


def look_salvage(node: Node) -> tuple[Salvaged, ...]:
    """The folders that there are of a node. Raises what the shell raises."""
    here = place(node)
    output = node.shell.run(["ls", "-1", "--", str(here)], account=node.account)
    if output.status != 0 and "No such file or directory" in output.stderr:
        return ()
    names = sorted(name for name in output.checked().stdout.split("\n") if name.startswith(f"{node.name}-"))
    return tuple(
        Salvaged(str(here / name), parse(read(node.shell, here / name / REPORT, account=node.account))) for name in names
    )


def parse(text: str | None) -> Report | None:
    """The report as it was written; None for one that is not there or not whole."""
    try:
        content = json.loads(text or "")
        tables = tuple(TableSalvaged(**table) for table in content.pop("tables"))
        return Report(**{**content, "segments": tuple(content["segments"])}, tables=tables)
    except (ValueError, TypeError, KeyError):
        return None
