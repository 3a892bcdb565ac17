"""What an ingest did: for people, and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from aya_lib.show import Badge, Shown, Table

COUNTED = ("added", "changed", "unchanged", "removed")
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
        said = asdict(self)
        return {**said, **said.pop("tally"), "encoder_s": round(self.encoder_s, 3)}

    def table(self) -> Table:
        failed = self.tally.failed
        words = [f"{count} {name}" for name in COUNTED if (count := getattr(self.tally, name))]
        words += [f"{len(failed)} failed"] if failed else []
        written = f"{self.tally.chunks} chunks written to {self.node} in {self.seconds:.1f} s"
        rows = tuple((Badge("failed"), file.path, file.reason) for file in failed[:SHOWN])
        more = len(failed) - SHOWN
        notes = (f"and {more} more; --json lists them all",) if more > 0 else ()
        title = f"{', '.join(words) or 'no documents found'}; {written}"
        return Table(title, ("", "left out", "because"), rows, notes, tone="warning" if failed else "passed")
