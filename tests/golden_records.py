"""What a runbook found and planned on a healthy lab, without what varies: kept in ``tests/golden/<runbook>.json``.

Run as a program on the folder of a site's runs, it writes the kept files anew: ``python tests/golden_records.py runs/lab``.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"
VARIES = (
    (re.compile(r"PID \d+"), "PID N"),
    (re.compile(r"(port|ports|localhost:|127\.0\.0\.1:)\s?\d+"), r"\1 N"),
    (re.compile(r"(/[\w.+-]+){2,}"), "PATH"),
    (re.compile(r"\d[\d,.]*"), "N"),
)


def outline(record: dict[str, Any]) -> list[str]:
    """A line for each check (status, name), each plan (title) with its changes, each end of a wait, and the verdict."""
    return [plain(line) for line in _lines(record)]


def plain(line: str) -> str:
    for pattern, placeholder in VARIES:
        line = pattern.sub(placeholder, line)
    return line


def newest(runs: Path, runbook: str) -> dict[str, Any]:
    """The record of the last run of a runbook below a site's folder of runs."""
    content: dict[str, Any] = json.loads(max((runs / runbook).glob("*Z.json")).read_text())
    return content


def kept(runbook: str) -> list[str]:
    lines: list[str] = json.loads((FOLDER / f"{runbook}.json").read_text())
    return lines


def differences(runs: Path, runbook: str) -> list[str]:
    """The lines in which a runbook's last run departs from the kept outline."""
    compared = difflib.unified_diff(kept(runbook), outline(newest(runs, runbook)), "kept", "now", lineterm="", n=0)
    return [f"{runbook}: {line}" for line in compared if not line.startswith(("---", "+++", "@@"))]


def _lines(record: dict[str, Any]) -> Iterator[str]:
    for step in record["steps"]:
        match step["kind"]:
            case "check":
                yield f"{step['status']}{'' if step['required'] else ' (not required)'}: {step['name']}"
            case "plan":
                yield f"plan: {step['title']}"
                yield from (f"- {change['node']}: {change['title']}" for change in step["changes"])
            case "wait":
                yield f"waited: {step['title']}"
    yield f"verdict: {record['verdict']['line']}"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for folder in sorted({record.parent for record in Path(sys.argv[1]).glob("*/*Z.json")}):
        target = FOLDER / f"{folder.name}.json"
        target.write_text(json.dumps(outline(newest(folder.parent, folder.name)), indent=1, ensure_ascii=False) + "\n")
