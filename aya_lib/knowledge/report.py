"""What an ingest did: for people, and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aya_lib.show import Badge, Shown, Table

SHOWN = 20  # failed files that a person is shown; JSON has all


@dataclass(frozen=True)
class Failed:
    """A file that was left out, and why."""

    path: str
    reason: str


@dataclass
class Tally:
    """Files by what became of them, and the chunks that were written."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    failed: list[Failed] = field(default_factory=list)


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """``seconds`` in all; ``encoder_s`` of them waiting for the encoder's answers."""

    site: str
    node: str
    tally: Tally
    seconds: float
    encoder_s: float

    def json(self) -> dict[str, Any]:
        counts = {name: value for name, value in vars(self.tally).items() if name != "failed"}
        failed = [vars(one) for one in self.tally.failed]
        encoder = round(self.encoder_s, 3)
        return {"site": self.site, "node": self.node, **counts, "failed": failed, "seconds": self.seconds, "encoder_s": encoder}

    def table(self) -> Table:
        found = self.tally
        counts = (("added", found.added), ("changed", found.changed), ("unchanged", found.unchanged), ("removed", found.removed))
        words = [f"{count} {name}" for name, count in counts if count]
        words += [f"{len(found.failed)} failed"] if found.failed else []
        title = (
            f"{', '.join(words) or 'no documents found'}; {found.chunks} chunks written to {self.node} in {self.seconds:.1f} s"
        )
        rows = tuple((Badge("failed"), one.path, one.reason) for one in found.failed[:SHOWN])
        more = len(found.failed) - SHOWN
        notes = (f"and {more} more; --json lists them all",) if more > 0 else ()
        return Table(title, ("", "left out", "because"), rows, notes, tone="warning" if found.failed else "passed")
