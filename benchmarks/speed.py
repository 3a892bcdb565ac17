"""Start-up, the lab, and a run beside its floor: medians of one run, as ratios where a claim is made of them.

``make bench`` prints a table and keeps it in benchmarks/speed.json. It uses a lab of its own. What starts a process is
measured in CPU seconds (user and system, of the process and its children, by ``getrusage``): the wall clock of a busy
machine says more of its neighbours. ``aya --help`` is to stay under 0.3 of them.
"""

from __future__ import annotations

import json
import os
import platform
import resource
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


def cpu(act: Callable[[], object]) -> float:
    """CPU seconds of the child processes that ``act`` starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    act()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_median(*words: str) -> float:
    return statistics.median(cpu(lambda: python(*words)) for _ in range(7))


def python(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def floor(folder: Path) -> Path:
    """A notebook whose only cell computes nothing: what papermill and a kernel cost by themselves."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    book.metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(book, folder / "floor.ipynb")
    return folder / "floor.ipynb"


def measure(site: Site, folder: Path) -> dict[str, float]:
    empty, papermill = cpu_median("-c", "pass"), cpu_median("-c", "import papermill")
    engine = cpu_median("-c", "import aya_lib.runbook.engine")
    found = {
        "python starts (CPU s)": empty,
        "import aya_lib, beyond that (CPU s)": cpu_median("-c", "import aya_lib") - empty,
        "import aya_lib.runbook.book, beyond that (CPU s)": cpu_median("-c", "import aya_lib.runbook.book") - empty,
        "aya --help (CPU s)": cpu_median("-m", "aya_lib", "--help"),
        "aya params (CPU s)": cpu_median("-m", "aya_lib", "params"),
        "import papermill as it is (CPU s)": papermill,
        "papermill through the engine, times that": engine / papermill,
        "lab up, the first time (s)": seconds(lambda: labs.up(site)),
        "lab up, when it runs (s)": median(3, lambda: labs.up(site)),
    }
    ups = []
    for _ in range(3):
        labs.down(site)
        ups.append(seconds(lambda: labs.up(site)))
    found["lab up, when it was down (s)"] = statistics.median(ups)
    book, out = floor(folder), folder / "out.ipynb"
    nothing, run = ("-m", "papermill", str(book), str(out)), ("-m", "aya_lib", "run", "verify_replication", "--quiet")
    floors, runs = [], []
    for _ in range(3):  # by turns: what else the machine does meets both
        floors.append(cpu(lambda: python(*nothing)))
        runs.append(cpu(lambda: python(*run)))
    found["papermill and a kernel, nothing run (CPU s)"] = statistics.median(floors)
    found["aya run verify_replication (CPU s)"] = statistics.median(runs)
    found["aya run verify_replication, times papermill's floor"] = statistics.median(runs) / statistics.median(floors)
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
