"""What the notebook says now. In JupyterLab a person changes a parameter, runs that cell alone, and goes on: a run compares."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from aya_lib.errors import AyaError, ParameterError, UsageError
from aya_lib.plan.change import Plan
from aya_lib.runbook import parameters
from aya_lib.runbook.parameters import Declaration

NEAR = 0.8  # difflib's ratio: dryrun, dryRun and DRY_RUN are dry_run; a scratch variable is not
STANDARD = {"site": "str", "dry_run": "bool", "approved_by": "str"}  # what every runbook that changes a site must have
AGAIN = "then the cell that says Runbook(...), and those below it"


class Notebook:
    """The notebook of one run. ``namespace`` is its ``globals()``; ``begun``: the parameters as they were when the run began."""

    def __init__(self, declaration: Declaration, namespace: Mapping[str, Any]) -> None:
        self.declaration = declaration
        self._namespace = namespace
        for name, kind in STANDARD.items() if declaration.changes_site else ():
            if (found := declaration.parameter(name).annotation) != kind:
                raise ParameterError(f"the parameter cell declares {name} as {found}, allowed is {kind}")
        self.begun = copy.deepcopy(self.now())
        self._old = self._plans()  # made before this run began
        self._applied: list[tuple[object, ...]] = []
        self.gate: str | None = None  # what did not hold when the requirements were last asked; None: they were not

    def now(self) -> dict[str, Any]:
        """The parameters as the kernel has them; :class:`ParameterError` for an unknown name, a wrong type, a cell not run."""
        known = [parameter.name for parameter in self.declaration.parameters]
        there = {name: self._namespace[name] for name in known if name in self._namespace}
        inputs: Sequence[str] | None = self._namespace.get("In")
        if inputs is not None:
            if missing := [name for name in known if name not in there]:
                line = f"the parameter cell was not run in this kernel: {', '.join(missing)} not set"
                raise ParameterError(line, hint="Run it, then this cell")
            for name in strangers(inputs, known):
                self.declaration.parameter(name)
        return parameters.validate(self.declaration, there)

    def unchanged(self) -> None:
        """:class:`ParameterError` with the cells to run when a parameter is not what it was when the run began."""
        for name, value in self.now().items():
            if value != self.begun[name]:
                line = (
                    f"nothing was done: {name} is {value!r} in the notebook now, and was {self.begun[name]!r} when this run began"
                )
                raise ParameterError(line, hint=f"Run the parameter cell, {AGAIN}")

    def unread(self) -> None:
        """:class:`ParameterError` when the parameter cell was saved with another value, and not run."""
        try:
            saved = parameters.declared(self.declaration.path).parameters
        except AyaError:
            return  # it is being written, or moved: what the kernel has is what counts
        before = {parameter.name: parameter.default for parameter in self.declaration.parameters}
        for one in saved:
            if one.name in before and before[one.name] != one.default != self.begun.get(one.name):
                line = f"nothing was done: the parameter cell says {one.name} = {one.default!r} now, and was not run"
                raise ParameterError(line, hint=f"Run it, {AGAIN}")

    def looked(self) -> None:
        """The site was looked at: every plan that is there already rests on an older look."""
        self._old, self._applied = self._plans(), []

    def current(self, plan: Plan) -> None:
        """:class:`UsageError` when a plan was carried out before, when it rests on an older look than the last, and when the
        notebook's gate before it is closed, or was passed by."""
        if self.gate or (self.gate is None and self.declaration.gated and "In" in self._namespace):
            why = self.gate or "the cell with runbook.require(...) was not run"
            raise UsageError(f"nothing was done: {why}", hint="Run the cells again from the look on, that one too")
        done = _signature(plan) in self._applied
        if done or any(plan is old for old in self._old):
            why = "it was carried out already" if done else "the site was looked at since it was made"
            line = f"nothing was done: the plan '{plan.title}' is stale, {why}"
            raise UsageError(line, hint="Run the cells again from the look on: a plan follows from what is seen")

    def carried_out(self, plan: Plan) -> None:
        """Take note that a plan is begun, however it ends."""
        self._applied.append(_signature(plan))

    def _plans(self) -> list[Plan]:
        return [value for value in self._namespace.values() if isinstance(value, Plan)]


def _signature(plan: Plan) -> tuple[object, ...]:
    return (plan.title, *((step.node, step.title, step.command) for step in plan.changes))


def strangers(inputs: Sequence[str], known: Sequence[str]) -> list[str]:
    """Names that executed cells set as parameters and that are none.

    They stand in a cell that papermill injected, beside parameters, or alone and nearly as one is written. A later cell that
    sets the parameter which was meant corrects an earlier one.
    """
    found: dict[str, str] = {}
    for source in inputs:
        names = _literals(source)
        said = names & set(known)
        found = {name: near for name, near in found.items() if not said or (near and near not in said)}
        for name in names - said:
            near = next(iter(get_close_matches(name.lower(), known, 1, NEAR)), "")
            if near or said or source.startswith("# Parameters"):
                found[name] = near
    return list(found)


def _literals(source: str) -> set[str]:
    """The names that a cell sets when it sets nothing but literals; else none."""
    names: set[str] = set()
    try:
        for node in ast.parse(source).body:
            if isinstance(node, ast.ImportFrom) and node.module == "typing":
                continue
            if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                return set()
            ast.literal_eval(node.value)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    except (SyntaxError, ValueError):
        return set()
    return names
