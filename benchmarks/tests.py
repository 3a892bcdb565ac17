"""Where the time of the tests goes: ``make test JUNIT=tests.xml``, then ``python benchmarks/tests.py tests.xml``.

Prints a table of the twenty slowest tests and the twenty slowest modules, from pytest's own JUnit file; a test's seconds are
those of its fixtures too. ``--out FILE`` keeps the figures, as ``benchmarks/tests.json`` keeps them: with several workers the
tests begin with the modules that took longest there, so that no long one is left for the end.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

SHOWN = 20


def figures(path: Path) -> dict[str, Any]:
    """The suite in a line, seconds of the slowest tests and of every module, slowest first."""
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    tests, modules = Counter[str](), Counter[str]()
    for case in suite.iter("testcase"):
        module, milliseconds = case.attrib["classname"].replace(".", "/") + ".py", round(1000 * float(case.attrib["time"]))
        tests[f"{module}::{case.attrib['name']}"] += milliseconds
        modules[module] += milliseconds
    ended = ", ".join(f"{suite.attrib[word]} {word}" for word in ("failures", "errors", "skipped"))
    took = f"{float(suite.attrib['time']):.0f} s on {os.cpu_count()} cores, {tests.total() / 1000:.0f} s one by one"
    return {
        "suite": f"{suite.attrib['tests']} tests, {ended}: {took}.",
        "tests": {name: number / 1000 for name, number in tests.most_common(SHOWN)},
        "modules": {name: number / 1000 for name, number in modules.most_common()},
    }


def table(what: str, seconds: Mapping[str, float]) -> str:
    rows = [f"| {name.replace('|', '/')} | {number:.1f} |" for name, number in [*seconds.items()][:SHOWN]]
    return "\n".join(["", f"| {what} | s |", "|---|---:|", *rows])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("junit", type=Path)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found = figures(chosen.junit)
    print(found["suite"], table("test", found["tests"]), table("module", found["modules"]), sep="\n")
    if chosen.out:
        chosen.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
