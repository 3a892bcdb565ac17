"""Where the time of the tests goes: ``make test JUNIT=tests.xml``, then ``python benchmarks/tests.py tests.xml``.

Prints a table of the twenty slowest tests and the twenty slowest modules, from pytest's own JUnit file; a test's seconds are
those of its fixtures too. ``--out FILE`` keeps the table, as ``benchmarks/tests.md`` is kept.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

SHOWN = 20


def table(path: Path) -> str:
    """The file's suite in a line, and two tables in Markdown."""
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    cases = list(suite.iter("testcase"))
    tests, modules = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for case in cases:
        module, seconds = case.attrib["classname"].removeprefix("tests."), float(case.attrib["time"])
        tests[f"{module}::{case.attrib['name']}"].append(seconds)
        modules[module].append(seconds)
    ended = ", ".join(f"{suite.attrib[word]} {word}" for word in ("failures", "errors", "skipped"))
    together = sum(map(sum, tests.values()))
    took = f"{float(suite.attrib['time']):.0f} s on {os.cpu_count()} cores, {together:.0f} s one by one"
    line = f"{len(cases)} tests, {ended}: {took}."
    counted = {f"{module} ({len(seconds)})": seconds for module, seconds in modules.items()}
    return "\n".join([line, *_rows("test", tests), *_rows("module", counted)])


def _rows(what: str, times: Mapping[str, list[float]]) -> list[str]:
    slowest = sorted(((sum(seconds), name) for name, seconds in times.items()), reverse=True)[:SHOWN]
    return ["", f"| {what} | s |", "|---|---:|", *(f"| {name.replace('|', '/')} | {seconds:.1f} |" for seconds, name in slowest)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("junit", type=Path)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    text = table(chosen.junit)
    print(text)
    if chosen.out:
        chosen.out.write_text(f"# The twenty slowest tests and modules\n{text}\n")
