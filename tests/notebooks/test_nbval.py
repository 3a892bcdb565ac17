"""Every notebook, executed by nbval on a lab: the outputs that are marked must be what the committed ones are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import again
from golden_records import differences

from aya_lib import settings
from aya_lib.runbook.refresh import BACKUPS, LAPTOP, ROLES, ordered
from aya_lib.site import Site

SANITIZE = settings.home() / "tests" / "nbval_sanitize.cfg"
NOTEBOOKS = [settings.home() / "notebooks" / f"{name}.ipynb" for name in ordered()]


SINGLE = [path for path in NOTEBOOKS if path.stem not in (*BACKUPS, *ROLES, *LAPTOP)]
GROUPS = {
    "first": SINGLE[0::2],
    "second": SINGLE[1::2],
    "backups": [path for path in NOTEBOOKS if path.stem in BACKUPS],
    "roles": [path for path in NOTEBOOKS if path.stem in ROLES],
    "laptop": [path for path in NOTEBOOKS if path.stem in LAPTOP],
}
# As in the notebook's JSON. A measurement at the size of a person's table takes a minute, and is the same with a small one.
SMALLER = (r'corpus: str = \"auto\"', r'corpus: str = \"generated:3000x64\"')


def lighter(path: Path, folder: Path) -> Path:
    """The notebook, or where it measures a corpus a copy of it in ``folder`` with a small one."""
    content = path.read_text()
    if SMALLER[0] not in content:
        return path
    (folder / path.name).write_text(content.replace(*SMALLER))
    return folder / path.name


def nbval(*notebooks: Path) -> subprocess.CompletedProcess[str]:
    words = ["-m", "pytest", "--nbval-lax", "--nbval-sanitize-with", str(SANITIZE), "-p", "no:cacheprovider", "-q"]
    command = [sys.executable, *words, "-c", os.devnull, *map(str, notebooks)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=settings.home())


@pytest.mark.parametrize("group", GROUPS)
def test_every_committed_output_is_what_a_run_gives_today(lab: Site, group: str, tmp_path: Path) -> None:
    """Marked outputs are as committed, and every check, plan and verdict is as kept in ``tests/golden``."""
    try:
        done = nbval(*(lighter(path, tmp_path) for path in GROUPS[group]))
    finally:
        if group != "first":
            again(lab, embedding=True)  # documents were loaded, BETA may be the primary, the laptop was set up
    assert done.returncode == 0, done.stdout[-4000:]
    assert [line for path in GROUPS[group] for line in differences(settings.runs() / lab.name, path.stem)] == []


def test_every_notebook_is_in_one_group() -> None:
    assert sorted(path for group in GROUPS.values() for path in group) == sorted(NOTEBOOKS)


def test_a_changed_expected_output_is_noticed(lab: Site, tmp_path: Path) -> None:
    content = (settings.home() / "notebooks" / "start_here.ipynb").read_text()
    changed = tmp_path / "start_here.ipynb"
    changed.write_text(re.sub(r"\d+ of (\d+) checks passed", r"0 of \1 checks passed", content))
    done = nbval(changed)
    assert done.returncode == 1
    assert "Cell outputs differ" in done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_runbook_reads_like_one(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    tags = [cell["metadata"].get("tags", []) for cell in cells if cell["cell_type"] == "code"]
    assert [index for index, tag in enumerate(tags) if "parameters" in tag] == [0]
    assert 12 <= len(cells) <= 20
    imports = [line for source in code for line in source.splitlines() if line.startswith(("from aya_lib", "import aya_lib"))]
    assert not any(" as " in line for line in imports), imports
    assert len({line.split(" import ")[0] for line in imports}) == len(imports), imports
    for source, tag in zip(code, tags, strict=True):
        lines = [line for line in source.splitlines() if line and not line.startswith(("#", "from ", "import "))]
        assert "parameters" in tag or len(lines) <= 3, source
        assert not any(word in source for word in ("def ", "class ", "sys.exit", "lambda")), source
    assert code[-1].endswith("runbook.verdict()")
    assert not any(out["output_type"] == "error" for cell in cells for out in cell.get("outputs", []))
    assert "".join(cells[0]["source"]).startswith("# ")
