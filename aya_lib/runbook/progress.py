"""A run's steps as lines in a terminal, for people and for cron's mail."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from aya_lib.runbook.run import RunResult
from aya_lib.show import SYMBOL

COLOUR = {"passed": "32", "warning": "33", "failed": "31", "unknown": "35", "planned": "34"}


def printer(out: TextIO) -> Callable[[Mapping[str, Any]], None]:
    """A function that prints a step of the record as it comes."""
    colour = coloured(out)

    def tell(step: Mapping[str, Any]) -> None:
        for line in lines(step, colour):
            print(line, file=out, flush=True)

    return tell


def lines(step: Mapping[str, Any], colour: bool = False) -> list[str]:
    """The lines of a step: one, and below a check that did not pass what was expected and what to do."""
    match step["kind"]:
        case "check":
            line = f"{_mark(step['status'], colour)} {step['name']}: {step['observed']} (expected: {step['expected']})"
            return [line, *([f"    {step['hint']}"] if step["hint"] and step["status"] != "planned" else [])]
        case "look":
            return [f"  looked: {step['title']}"]
        case "plan":
            return [f"  {step['title']}: {len(step['changes'])} changes"]
        case "change":
            end = f": {step['detail']}" if step["detail"] else ""
            return [
                f"> {step['node']}: {step['title']}: {step['state']}{end}",
                *([f"    {step['command']}"] * (step["state"] == "started")),
            ]
        case "wait":
            return [f"  waited {step['seconds']:.1f} s until {step['title']}"]
        case _:
            return [f"  {step.get('message', step['kind'])}"]


def ending(result: RunResult, out: TextIO) -> None:
    """The verdict, and as the last line the path of the executed notebook."""
    record = result.record
    outcome = str(record["outcome"])
    line = (record.get("verdict") or {}).get("line") or ""
    error = str(record.get("error") or "")
    if not line or outcome in ("interrupted", "died"):
        line = f"{record['runbook']} on {record['site']} {outcome}: {error}"
    mark = _mark(outcome if outcome in ("passed", "planned", "unknown") else "failed", coloured(out))
    print(f"{mark} {line} ({record['seconds']:.1f} s)", file=out)
    print(result.notebook, file=out)


def coloured(out: TextIO) -> bool:
    """Whether colour is wanted: a terminal, and NO_COLOR is not set."""
    return out.isatty() and not os.environ.get("NO_COLOR")


def _mark(status: str, colour: bool) -> str:
    symbol = SYMBOL[status]  # type: ignore[index]
    return f"\x1b[{COLOUR[status]}m{symbol}\x1b[0m" if colour else symbol
