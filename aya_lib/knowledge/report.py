"""What an ingest did: for people, and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from aya_lib.show import Badge, Shown, Table, Tone

COUNTED = ("added", "changed", "moved", "unchanged", "removed")
SHOWN = 20  # files of each kind that a person is shown; JSON has all
TONES: dict[str, Tone] = {"failed": "failed", "partly": "warning", "noted": "plain"}


@dataclass(frozen=True)
class Failed:
    """A file that was left out, in whole or in part, or of which something is to be said; and why."""

    path: str
    reason: str


@dataclass
class Tally:
    """Files by what became of them, and the chunks that were written.

    ``failed``: left out; ``partly``: some of their text could not be read; ``noted``: what was replaced, or has no vector;
    ``navigation_words``: of web pages, left out.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    navigation_words: int = 0
    failed: list[Failed] = field(default_factory=list)
    partly: list[Failed] = field(default_factory=list)
    noted: list[Failed] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether all text of all files is there."""
        return not (self.failed or self.partly)


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
        tally = said.pop("tally")
        return {**said, **tally, "encoder_s": round(self.encoder_s, 3)}

    def table(self) -> Table:
        tally = self.tally
        words = [f"{count} {name}" for name in COUNTED if (count := getattr(tally, name))]
        rows, notes = [], []
        for name, tone in TONES.items():
            files: list[Failed] = getattr(tally, name)
            words += [f"{len(files)} {name}"] if files and name != "noted" else []
            rows += [(Badge(tone, name), file.path, file.reason) for file in files[:SHOWN]]
            notes += [f"and {len(files) - SHOWN} more {name}; --json lists them all"] if len(files) > SHOWN else []
        if tally.navigation_words:
            notes.append(f"{tally.navigation_words:,} words of navigation were left out of web pages")
        title = f"{', '.join(words) or 'nothing to do'}; {tally.chunks} chunks written to {self.node} in {self.seconds:.1f} s"
        return Table(title, ("", "file", "because"), tuple(rows), tuple(notes), tone="passed" if tally.whole else "warning")
