"""Where a runbook shows itself: the notebook's output cell when there is one, the terminal otherwise."""

from __future__ import annotations

import uuid
from typing import Any

from aya_lib.plan.change import Change, Plan
from aya_lib.show import Badge, Note, Shown, Table, Tone, as_text, in_notebook

TONE: dict[str, Tone] = {"started": "planned", "done": "passed", "failed": "failed", "undone": "warning"}


class _Steps(Shown):
    """The steps of a plan as they are taken."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: dict[str, tuple[Badge, str, str, str]] = {}

    def table(self) -> Table:
        return Table(self.title, ("", "node", "change", ""), tuple(self.rows.values()))


class Screen:
    """An output that is drawn once and then updated in place; in a terminal, lines one after the other."""

    def __init__(self, plan: Plan | None) -> None:
        self._steps = _Steps(plan.title) if plan else None
        self._handle: Any = None

    @staticmethod
    def show(shown: Shown) -> None:
        if in_notebook():
            from IPython.display import display

            display(shown)  # type: ignore[no-untyped-call]
        else:
            print(as_text(shown.table()), flush=True)

    def step(self, step: Change, state: str, detail: str) -> None:
        """Show how far a change of the plan has come."""
        assert self._steps is not None
        row = (Badge(TONE.get(state, "failed"), state), step.node, step.title, detail)
        self._steps.rows[step.node + step.title] = row
        self.update(self._steps, line=f"{row[0]}: {step.node}: {step.title} {detail}".rstrip())

    def update(self, shown: Shown, line: str | None = None) -> None:
        """Draw in place of what was drawn before."""
        if not in_notebook():
            if line:
                print(line, flush=True)
            return
        from IPython.display import display

        if self._handle is None:
            self._handle = display(shown, display_id=uuid.uuid4().hex)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown)

    def clear(self) -> None:
        """Leave a quiet line where something was drawn while waiting."""
        if self._handle is not None:
            self._handle.update(Note("Waited.", "quiet"))
