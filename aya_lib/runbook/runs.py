"""The runs that were kept: listed, newest first, and pruned by age."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aya_lib import settings
from aya_lib.errors import AyaError, UsageError, nearest
from aya_lib.runbook.parameters import runbooks
from aya_lib.runbook.record import Record, alive
from aya_lib.show import Badge, Shown, Table, Tone
from aya_lib.site import known_sites

TONE: dict[str, Tone] = {"passed": "passed", "planned": "planned", "running": "planned", "unknown": "unknown"}


@dataclass(frozen=True)
class Run:
    """One kept run. ``outcome`` is *died* when its record still says running and its process is gone."""

    site: str
    runbook: str
    started: str
    outcome: str
    seconds: float | None
    line: str
    record: Path

    @property
    def notebook(self) -> Path:
        return self.record.with_suffix(".ipynb")


@dataclass(frozen=True, repr=False)
class Runs(Shown):
    runs: tuple[Run, ...]

    def table(self) -> Table:
        rows = tuple(
            (Badge(TONE.get(run.outcome, "failed"), run.outcome), run.started, run.site, run.runbook, _seconds(run), run.line)
            for run in self.runs
        )
        return Table(f"{len(rows)} runs in {settings.runs()}", ("", "started", "site", "runbook", "took", "verdict"), rows)


def kept(site: str | None = None, runbook: str | None = None) -> Runs:
    """The runs of a site and a runbook (None: all), newest first. What is not a readable record is left out."""
    runs = [run for path in settings.runs().glob(f"{site or '*'}/{runbook or '*'}/*.json") if (run := _read(path))]
    return Runs(tuple(sorted(runs, key=lambda run: run.started, reverse=True)))


def require_known(site: str | None, runbook: str | None) -> None:
    """:class:`UsageError` for a site or a runbook that is neither there nor among the runs."""
    folder, books = settings.runs(), runbooks(settings.notebooks())
    known = sorted({*known_sites(), *(path.name for path in folder.glob("*") if path.is_dir())})
    if site and site not in known:
        raise UsageError(f"unknown site '{site}'{nearest(site, known)}", hint=f"Known sites: {', '.join(known) or 'none'}")
    if runbook and runbook not in books and not any(folder.glob(f"*/{runbook}")):
        raise UsageError(f"unknown runbook '{runbook}'{nearest(runbook, books)}", hint=f"There are {', '.join(books) or 'none'}")


def prune(kept: Runs, age: str) -> Runs:
    """Delete the runs older than ``age`` (``30d``, ``12h``), except the newest of each runbook and running ones; those left."""
    limit = datetime.now(UTC) - _age(age)
    newest: set[tuple[str, str]] = set()
    left = []
    for run in kept.runs:
        first = (run.site, run.runbook) not in newest
        newest.add((run.site, run.runbook))
        if not first and run.outcome != "running" and datetime.fromisoformat(run.started) < limit:
            for path in run.record.parent.glob(f"{run.record.stem}.*"):
                path.unlink()
        else:
            left.append(run)
    return Runs(tuple(left))


def _age(text: str) -> timedelta:
    words = re.fullmatch(r"(\d+)\s*([dhm])", text.strip())
    if words is None:
        raise UsageError(f"--prune {text}: allowed is a number and d, h or m", hint="For example --prune 30d")
    return timedelta(**{{"d": "days", "h": "hours", "m": "minutes"}[words[2]]: int(words[1])})


def _read(path: Path) -> Run | None:
    try:
        content = Record.load(path).content
        outcome = content["outcome"]
        if outcome == "running" and not alive(content):
            outcome = "died"
        line = (content.get("verdict") or {}).get("line") or content.get("error") or ""
        return Run(content["site"], content["runbook"], content["started"], outcome, content.get("seconds"), line, path)
    except (AyaError, KeyError, TypeError):
        return None


def _seconds(run: Run) -> str:
    return "" if run.seconds is None else f"{run.seconds:.1f} s"
