"""What a person does in JupyterLab: a cell changed and run alone, cells out of order, a kernel begun anew. No site is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from aya_lib.errors import ParameterError, UsageError
from aya_lib.plan.actions import Nothing
from aya_lib.plan.change import Change, Plan
from aya_lib.runbook import parameters
from aya_lib.runbook.notebook import Notebook, strangers

CELL = 'site: str = "lab"\ndry_run: bool = False\napproved_by: str = ""\nrows: int = 20\npaths: list = ["a"]'
PLAN = Plan("p", (Change("ALPHA", "do it", Nothing(), "nothing"),))


class Kernel(dict[str, Any]):
    """The names of a kernel, and ``In``; ``run`` executes a cell."""

    def __init__(self, *cells: str) -> None:
        super().__init__(In=[""])
        for cell in cells:
            self.run(cell)

    def run(self, cell: str) -> None:
        self["In"].append(cell)
        exec(cell, self)


def saved(folder: Path, cell: str = CELL, *more: str) -> Path:
    cells = [nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]}), *map(nbformat.v4.new_code_cell, more)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"aya": {"changes_site": True}}), folder / "book.ipynb")
    return folder / "book.ipynb"


def begin(folder: Path, kernel: Kernel, cell: str = CELL) -> Notebook:
    return Notebook(parameters.declared(saved(folder, cell)), kernel)


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("dry_run = True", "nothing was done: dry_run is True in the notebook now, and was False .*Run the parameter cell"),
        ('site = "production"', "site is 'production' in the notebook now"),
        ('paths.append("b")', r"paths is \['a', 'b'\] in the notebook now"),
        ("dryrun = True", "no parameter 'dryrun'; did you mean 'dry_run'"),
        ("DRY_RUN = True", "no parameter 'DRY_RUN'; did you mean 'dry_run'"),
        (CELL.replace("dry_run", "dryRun"), "no parameter 'dryRun'; did you mean 'dry_run'"),
        (CELL + "\nFENCE = 1", "no parameter 'FENCE'"),
        ('rows: str = "20"', r"'rows': found '20' \(str\)"),
        ("dry_run = 'false'", r"'dry_run': found 'false' \(str\), allowed is true or false"),
        ("del dry_run", "the parameter cell was not run in this kernel: dry_run not set"),
    ],
)
def test_what_is_changed_after_the_run_began_stops_it_with_the_cell_to_run(tmp_path: Path, cell: str, line: str) -> None:
    kernel = Kernel(CELL)
    notebook = begin(tmp_path, kernel)
    notebook.unchanged()
    kernel.run(cell)
    with pytest.raises(ParameterError, match=line):
        notebook.unchanged()


def test_a_corrected_cell_and_the_operators_own_names_are_no_matter(tmp_path: Path) -> None:
    kernel = Kernel(CELL.replace("dry_run", "dryrun"), CELL, "x = 3\ncounts = [1]", "ROWZ = 1", "rows = 20")
    begin(tmp_path, kernel).unchanged()
    known = ["rows", "dry_run"]
    assert strangers(["# Parameters\nrowz = 1"], known) == ["rowz"]  # as papermill sets what it is given
    assert strangers(["rowz = len('a')", "rows = = 3", "%magic"], known) == []


def test_after_the_kernel_began_anew_the_parameter_cell_comes_first(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"the parameter cell was not run in this kernel: site, dry_run, .*Run it"):
        begin(tmp_path, Kernel())


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        (CELL.replace("dry_run", "dryrun"), "has no parameter 'dry_run'; did you mean 'dryrun'"),
        (CELL.replace("bool = False", 'str = "no"'), "declares dry_run as str, allowed is bool"),
    ],
)
def test_a_saved_notebook_without_its_brakes_is_refused(tmp_path: Path, cell: str, line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        begin(tmp_path, Kernel(cell), cell)


def test_a_parameter_that_was_changed_and_saved_but_not_run_is_noticed(tmp_path: Path) -> None:
    kernel = Kernel(CELL)
    notebook = begin(tmp_path, kernel)
    saved(tmp_path, CELL + "  # as it was")
    notebook.unread()
    saved(tmp_path, CELL.replace("False", "True"))
    with pytest.raises(ParameterError, match="the parameter cell says dry_run = True now, and was not run"):
        notebook.unread()
    kernel.run(CELL.replace("False", "True"))
    Notebook(notebook.declaration, kernel).unread()


def test_a_plan_is_applied_once_and_only_when_nothing_was_looked_at_since(tmp_path: Path) -> None:
    kernel = Kernel(CELL)
    notebook = begin(tmp_path, kernel)
    kernel["plan"] = PLAN
    for _ in range(2):
        notebook.current(PLAN)  # what the lock refused, or nobody approved, may be tried again
    notebook.carried_out(PLAN)
    for again in (PLAN, Plan(*vars(PLAN).values())):  # the cell run twice; the plan's own cell before it, too
        with pytest.raises(UsageError, match=r"the plan 'p' is stale, it was carried out already.*from the look on"):
            notebook.current(again)
    notebook.looked()
    with pytest.raises(UsageError, match="stale, the site was looked at since it was made"):
        notebook.current(PLAN)
    kernel["plan"] = Plan(*vars(PLAN).values())
    notebook.current(kernel["plan"])
    with pytest.raises(UsageError, match="stale, the site was looked at since"):  # by a run that began before this one
        Notebook(notebook.declaration, kernel).current(kernel["plan"])


def test_nobody_steps_past_a_gate(tmp_path: Path) -> None:
    declared = parameters.declared(saved(tmp_path, CELL, "runbook.require(checks)", "runbook.apply(plan)"))
    notebook = Notebook(declared, Kernel(CELL))
    for gate, line in (
        (None, r"the cell with runbook.require\(...\) was not run"),
        ("1 of 2 does not hold", "1 of 2 does not hold"),
    ):
        notebook.gate = gate
        with pytest.raises(UsageError, match=f"nothing was done: {line}.*from the look on"):
            notebook.current(PLAN)
    notebook.gate = ""
    notebook.current(PLAN)
