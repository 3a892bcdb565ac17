"""Changes are data before they are deeds: a pure function makes a :class:`Plan`; applying walks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from aya_lib.errors import AyaError, ChangeFailed, Interrupted, NoWayBack
from aya_lib.node.node import Node, Nodes
from aya_lib.show import Badge, Code, Shown, Table


class Action(Protocol):
    """One act on one node. Doing it twice does no harm."""

    def command(self, node: Node) -> str:
        """What a person would type for it."""

    def run(self, node: Node) -> None:
        """Do it and return when it is done; an :class:`AyaError` otherwise."""


@dataclass(frozen=True)
class Change:
    """One step of a plan. ``interrupts``: somebody's work breaks off; ``destroys``: something cannot be got back.
    ``vital``: its failure ends the walk; else it is named, and the rest goes on."""

    node: str
    title: str
    action: Action
    command: str
    undo: Action | None = None
    interrupts: bool = False
    destroys: bool = False
    vital: bool = True

    @property
    def harmful(self) -> bool:
        return self.interrupts or self.destroys


def change(
    node: Node,
    title: str,
    action: Action,
    *,
    undo: Action | None = None,
    interrupts: bool = False,
    destroys: bool = False,
    vital: bool = True,
) -> Change:
    """A change whose command is written out for the node it is done on."""
    return Change(node.name, title, action, action.command(node), undo, interrupts, destroys, vital)


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """Changes in order. Empty: it is as requested already. ``unwind``: whether a failure undoes what was done."""

    title: str
    changes: tuple[Change, ...] = ()
    unwind: bool = True

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def table(self) -> Table:
        if not self.changes:
            return Table(f"{self.title}: nothing to change", tone="passed")
        rows = tuple(
            (str(number), step.node, step.title, Code(step.command), _effect(step), "yes" if step.undo else "no")
            for number, step in enumerate(self.changes, 1)
        )
        return Table(
            f"{self.title}: {len(self.changes)} change{'' if len(self.changes) == 1 else 's'}",
            ("", "node", "change", "command", "effect", "undo"),
            rows,
            (self._point_of_no_return(),),
            tone="planned",
        )

    def _point_of_no_return(self) -> str:
        if not self.unwind:
            return "If one fails, those before it stay done: each is good by itself."
        first = next((number for number, step in enumerate(self.changes, 1) if step.undo is None), None)
        return "Every change can be undone." if first is None else f"From change {first} on there is no way back by itself."


Report = Callable[[Change, str, str], None]


def apply(plan: Plan, nodes: Nodes, report: Report) -> list[tuple[Change, AyaError]]:
    """Walk the plan. At the first failure undo what was done, in reverse order, if the plan says so.

    ``report(change, state, detail)`` hears *started*, *done*, *failed*, *interrupted*, *undone*, *undo failed*. Raises
    :class:`ChangeFailed`, whose message is the first error; a failing undo is added to it and hides nothing. Nothing is undone
    after :class:`NoWayBack`. An interruption is handled alike, and the step that it broke off is undone too, for nobody knows
    how far it had come: :class:`Interrupted`. Returned are the changes that failed without ending the walk.
    """
    begun: list[Change] = []
    remain: list[tuple[Change, AyaError]] = []
    try:
        for step in plan.changes:
            begun.append(step)
            report(step, "started", "")
            error = _tried(step.action, nodes[step.node])
            report(step, "failed" if error else "done", str(error or ""))
            if error is None:
                continue
            begun.pop()
            if step.vital:
                undone = _undone(plan, begun, nodes, report, back=not isinstance(error, NoWayBack))
                raise ChangeFailed(f"'{step.title}' failed: {error.message}. {undone}", hint=error.hint) from None
            remain.append((step, error))
    except KeyboardInterrupt as stop:
        step = (begun or list(plan.changes))[-1]
        report(step, "interrupted", "")
        undone = _undone(plan, begun, nodes, report)
        line = f"interrupted{f' by {stop}' if str(stop) else ''} in '{step.title}' on {step.node}"
        raise Interrupted(f"{line}. {undone}") from None
    return remain


def _tried(action: Action, node: Node) -> AyaError | None:
    """Do it; the error, whatever it is, when it failed: a plan is never left half done without a word."""
    try:
        action.run(node)
    except AyaError as error:
        return error
    except OSError as error:  # a file on this machine: no room, or not ours to write
        return AyaError(f"a file on this machine: {error}")
    except Exception as error:
        return AyaError(f"unexpected {type(error).__name__}: {error}")
    return None


def _undone(plan: Plan, done: list[Change], nodes: Nodes, report: Report, *, back: bool = True) -> str:
    return "; ".join(unwind(done, nodes, report)) if plan.unwind and back else "What was done before it stays"


def unwind(done: list[Change], nodes: Nodes, report: Report) -> Iterator[str]:
    """Undo in reverse order, going on past an undo that fails or is interrupted again; yields a sentence for each.

    A change without an undo is the line below which there is no way back: nothing above it is undone either. Half of a way
    back is worse than none: it would start an old primary again beside the one that was promoted.
    """
    for step in reversed(done):
        if step.undo is None:
            yield f"'{step.title}' stays done, and what came before it"
            return
        try:
            error = _tried(step.undo, nodes[step.node])
        except KeyboardInterrupt:
            error = AyaError("interrupted")
        if error is not None:
            report(step, "undo failed", str(error))
            yield f"undoing '{step.title}' failed: {error.message}"
        else:
            report(step, "undone", "")
            yield f"'{step.title}' was undone"


def _effect(step: Change) -> Badge | str:
    words = [word for word, on in (("interrupts", step.interrupts), ("destroys", step.destroys)) if on]
    return Badge("warning", ", ".join(words)) if words else "harmless"
