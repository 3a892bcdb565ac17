"""Start-up, the lab, and a run beside its floor: medians of one run, as ratios where a claim is made of them.

``make bench`` prints a table and keeps it in benchmarks/speed.json. It uses a lab of its own.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat

from aya_lib import lab as labs
from aya_lib.lab.new import new
from aya_lib.runbook.refresh import model_site
from aya_lib.site import Site

RESULTS = Path(__file__).with_suffix(".json")


def seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def median(times: int, act: Callable[[], object]) -> float:
    return statistics.median(seconds(act) for _ in range(times))


def python(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def floor(folder: Path) -> Path:
    """A notebook whose only cell computes nothing: what papermill and a kernel cost by themselves."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    book.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(book, folder / "floor.ipynb")
    return folder / "floor.ipynb"


def measure(site: Site, folder: Path) -> dict[str, float]:
    empty = median(5, lambda: python("-c", "pass"))
    found = {
        "python starts (s)": empty,
        "import aya_lib, beyond that (s)": median(5, lambda: python("-c", "import aya_lib")) - empty,
        "import aya_lib.runbook.book, beyond that (s)": median(5, lambda: python("-c", "import aya_lib.runbook.book")) - empty,
        "aya --help (s)": median(5, lambda: python("-m", "aya_lib", "--help")),
        "lab up, the first time (s)": seconds(lambda: labs.up(site)),
        "lab up, when it runs (s)": median(3, lambda: labs.up(site)),
    }
    ups = []
    for _ in range(3):
        labs.down(site)
        ups.append(seconds(lambda: labs.up(site)))
    found["lab up, when it was down (s)"] = statistics.median(ups)
    book, out = floor(folder), folder / "out.ipynb"
    found["papermill and a kernel, nothing run (s)"] = median(3, lambda: python("-m", "papermill", str(book), str(out)))
    run = ("-m", "aya_lib", "run", "verify_replication", "--quiet")
    found["aya run verify_replication (s)"] = median(3, lambda: python(*run))
    found["aya run verify_replication, times papermill's floor"] = (
        found["aya run verify_replication (s)"] / found["papermill and a kernel, nothing run (s)"]
    )
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        os.environ |= {"AYA_PARAMETERS": str(model_site(folder)), "AYA_RUNS": str(folder / "runs")}
        site = new("lab", folder / "lab", like="model")
        try:
            found = measure(site, folder)
        finally:
            labs.delete(site)
    for name, value in found.items():
        print(f"{name:55} {value:8.3f}")
    machine = {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}
    RESULTS.write_text(json.dumps({"machine": machine, "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
