"""The runbook: six verbs that look, check, require, apply, wait, and give the verdict.

Each verb shows what it did (in a notebook as HTML, elsewhere as text) and writes it into the run record at once.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from aya_lib import settings
from aya_lib.check import Check, Checks, Status, worst
from aya_lib.cluster import state
from aya_lib.cluster.canary import writes
from aya_lib.errors import ApprovalMissing, AyaError, Interrupted, Locked, RequirementFailed, VerdictFailed
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.node.unseen import Planned, Unseen
from aya_lib.plan.approval import require_approval
from aya_lib.plan.change import Change, Plan
from aya_lib.plan.change import apply as walk
from aya_lib.runbook import interruption, parameters
from aya_lib.runbook.notebook import Notebook
from aya_lib.runbook.pair_lock import PairLock
from aya_lib.runbook.record import Record, heading
from aya_lib.runbook.screen import Screen
from aya_lib.show import Note, Shown, Table
from aya_lib.site import Site, made_site

P = ParamSpec("P")
T = TypeVar("T")


def _verb(act: Callable[P, T]) -> Callable[P, T]:
    """A verb does nothing when the notebook says something else by now, and its record tells how it ended, however that is."""

    @functools.wraps(act)
    def verb(*args: P.args, **kwargs: P.kwargs) -> T:
        book = args[0]
        assert isinstance(book, Runbook)
        book.compare()
        try:
            with interruption.handled(interruption.once()):
                return act(*args, **kwargs)
        except KeyboardInterrupt as stop:
            error: AyaError = Interrupted(f"{' by '.join(filter(None, ('interrupted', str(stop))))} in '{act.__name__}'")
        except AyaError as raised:
            error = raised
        except Exception as defect:
            book.broken_off(AyaError(f"unexpected {type(defect).__name__}: {defect}"))
            raise
        raise book.broken_off(error) from None

    return verb


class Runbook(Shown):
    """One run of a runbook on a site.

    ``namespace`` is the notebook's ``globals()``: the parameters are read from it and checked, names and types, against
    the notebook's own parameter cell, so that plain papermill and a person in JupyterLab get the same refusals as
    ``aya run``. Raises :class:`ParameterError` and :class:`SiteError`.
    """

    def __init__(self, name: str, namespace: Mapping[str, Any]) -> None:
        declared = parameters.declared(settings.notebooks() / f"{name}.ipynb")
        self.name = name
        self.notebook = Notebook(declared, namespace)
        self.parameters = self.notebook.begun
        self.site = made_site(str(self.parameters.get("site", "lab")))
        self.nodes: Nodes = open_nodes(self.site)
        self.dry_run = bool(self.parameters.get("dry_run", False))
        self.approved_by = str(self.parameters.get("approved_by", ""))
        self.changes_site, self.contents, self.own_lock = declared.changes_site, declared.contents, declared.own_lock
        self.checks: dict[str, Check] = {}
        self.pending = False  # a plan with changes was shown and not carried out, because this is a dry run
        self.lock: PairLock | None = None
        self.again = parameters.command(declared, self.parameters)
        self.record = self._begin()
        for other in [value for value in namespace.values() if isinstance(value, Runbook)]:
            if other.record.path != self.record.path and other.record.content["outcome"] == "running":
                other.record.end("interrupted", error="a new run was begun in its place")

    def compare(self) -> None:
        """:class:`ParameterError` when the notebook's parameters are not those of this run any more."""
        self.notebook.unchanged()
        if "AYA_RECORD" not in os.environ:  # a person in JupyterLab, who may have saved what was not run
            self.notebook.unread()

    def broken_off(self, error: AyaError) -> AyaError:
        """The error that ended a verb, with how to go on after an interruption; the record has it."""
        if isinstance(error, Interrupted):
            cells = "" if "AYA_RECORD" in os.environ else "Run the cells again from the look on, or: "
            error = Interrupted(error.message, hint=f"{cells or 'It goes on where it was: '}{self.again}")
        if (
            self.contents
            and (given_up := state.given_up(self.site, self.record.content["started"]))
            and given_up not in str(error)
        ):
            error.hint = f"{given_up}. Once that has ended: {self.again}"
        refused = isinstance(error, ApprovalMissing | Locked)
        outcome = "interrupted" if isinstance(error, Interrupted) else "refused" if refused else "failed"
        if self.record.content["outcome"] == "running" or outcome == "interrupted":
            with suppress(AyaError):  # a full disk: the error itself is what counts
                code = {"exit_code": error.exit_code} if refused else {}
                self.record.add("error", message=str(error), error_type=type(error).__name__)
                self.record.end(outcome, error=str(error), **code)
        return error

    @_verb
    def look(self, fact: Callable[Concatenate[Nodes, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``fact(nodes, ...)`` sees. In a dry run a probe, which would write, is not tried: it gives ``Planned``."""
        would = writes(fact)
        if would and self.dry_run:
            planned = Planned(would)
            self._note("look", Note(f"Not done in a dry run: {would}", "planned"), title=would, facts=planned)
            return planned  # type: ignore[return-value]
        self._hold(looking=True)
        started = time.monotonic()
        self.notebook.looked()
        with self._working():
            facts = fact(self.nodes, *args, **kwargs)
        unseen = Note(f"Could not be seen: {facts}", "unknown") if isinstance(facts, Unseen) else None
        shown = facts if isinstance(facts, Shown) else unseen
        self._note("look", shown, title=_title(fact), facts=facts, seconds=_since(started))
        return facts

    @_verb
    def check(self, *checks: Check | Iterable[Check], title: str = "Checks") -> None:
        """Record and show checks. The verdict rests on the last one of each name."""
        self._judge(title, self._as_planned(_flat(checks)))

    @_verb
    def require(self, *checks: Check | Iterable[Check], title: str = "Before anything is changed") -> None:
        """The gate: as :meth:`check`, and :class:`RequirementFailed` unless every required one passed."""
        asked = _flat(checks)
        self._judge(title, asked)
        stop = [check for check in asked if check.required and check.status in ("failed", "unknown")]
        if stop:
            names = "; ".join(f"{check.name}: {check.observed}" for check in stop)
            line = f"Nothing was changed, because {len(stop)} of {len(asked)} requirements do not hold: {names}"
            status: Status = "failed" if any(check.status == "failed" for check in stop) else "unknown"
            self._end(status, line)
            self.notebook.gate = f"{len(stop)} of {len(asked)} requirements do not hold: {names}"
            raise RequirementFailed(line, hint=next((check.hint for check in stop if check.hint), ""))
        self.notebook.gate = ""

    @_verb
    def apply(self, plan: Plan, *, show: bool = False) -> None:
        """Walk the plan; a dry run leaves it at the plan. ``show`` it first, where no cell of its own does. Raises
        :class:`ApprovalMissing` and :class:`ChangeFailed`."""
        if plan:
            self.notebook.current(plan)
        self.record.add("plan", title=plan.title, changes=[_plain(step) for step in plan.changes])
        if not plan:
            return Screen.show(Note("Nothing to change: it is as requested already.", "passed"))
        if show:
            Screen.show(plan)
        if self.dry_run:
            self.pending = True
            return Screen.show(Note(f"Dry run: {len(plan)} changes planned, none made.", "planned"))
        require_approval(self.site, plan, self.approved_by)
        self._hold()
        screen = Screen(plan)
        with self._working():
            self.notebook.carried_out(plan)
            remain = walk(plan, self.nodes, lambda step, state, detail: self._report(screen, step, state, detail))
        again = f"Everything else is done. Run {self.name} again: it does what is left"
        checks = [Check(step.title, "warning", "done", error.message, f"{error.hint} {again}".strip()) for step, error in remain]
        if checks:
            self._judge("What remains", checks)

    @_verb
    def wait(self, look: Callable[[Nodes], T], judge: Callable[[Site, T], list[Check]], deadline_s: float, title: str) -> T:
        """Look until no required check is failed or unknown, at most ``deadline_s``; record the last checks seen."""
        started, screen = time.monotonic(), Screen(None)
        self.notebook.looked()
        while True:
            with self._working():
                facts = look(self.nodes)
            checks = judge(self.site, facts)
            good = worst(checks) not in ("failed", "unknown")
            if good or self.dry_run or _since(started) >= deadline_s:
                break
            screen.update(Note(f"Waiting: {title}, {_since(started):.0f} of {deadline_s:.0f} s", "planned"))
            time.sleep(0.2)
        self.record.add("wait", title=title, seconds=_since(started), deadline_s=deadline_s, held=good)
        screen.clear()
        self._judge(title, self._as_planned(checks))
        return facts

    @_verb
    def verdict(self) -> None:
        """The table of everything that did not pass, and the last line. :class:`VerdictFailed` unless all passed."""
        checks = list(self.checks.values())
        status = worst(checks) if checks else "unknown"
        required = [check for check in checks if check.required]
        if self.dry_run and status in ("planned", "passed", "warning"):
            status = "planned"
        passed = sum(check.status in ("passed", "warning") for check in required)
        line = f"{self.name} on {self.site.name}: {passed} of {len(required)} checks passed"
        others = [check for check in checks if check.status != "passed"]
        line += "".join(f", {n} {word}" for word in ("failed", "unknown", "planned") if (n := _count(required, word)))
        line += f", {n} with a warning" if (n := _count(checks, "warning")) else ""
        Screen.show(Checks(line, tuple(others)) if others else Note(line, "passed"))
        self._end(status, line)
        if status in ("failed", "unknown"):
            named = ", ".join(check.name for check in required if check.status in ("failed", "unknown"))
            raise VerdictFailed(f"{line}: {named}", hint=next((check.hint for check in others if check.hint), ""))

    def table(self) -> Table:
        """The site as configured, for the first screen."""
        rows = tuple(
            (name, config.role, f"{config.host}:{server.port}", config.supervisor, str(server.data_directory))
            for name, config in self.site.nodes.items()
            for server in [config.postgresql]
        )
        production = "production" if self.site.production else "not production"
        mode = "dry run: nothing will be changed" if self.dry_run else production
        columns = ("node", "configured role", "PostgreSQL", "supervisor", "data directory")
        return Table(f"{self.name} on site {self.site.name} ({mode})", columns, rows, (), "planned" if self.dry_run else "plain")

    def _begin(self) -> Record:
        given = os.environ.get("AYA_RECORD")
        path = Path(given) if given else _default_path(self.site.name, self.name)
        content = heading(self.name, self.site.name, self.parameters)
        if not path.exists():
            return Record.begin(path, **content)
        record = Record.load(path)
        record.set(**content)
        return record

    def _hold(self, *, looking: bool = False) -> None:
        """Hold the site's lock from the first look of a run that may change something. One that was given back is taken anew for
        a look only: a plan rests on looks during which nobody else was at work."""
        needless = self.dry_run or self.own_lock or (looking and not self.changes_site)
        if needless or (self.lock and not (looking and self.lock.over)):
            return
        self.lock = PairLock(self.nodes, self.name, attended="AYA_RECORD" not in os.environ, contents=self.contents)
        self.record.set(lock={"held": self.lock.held, "missing": self.lock.missing})
        if not self.lock.held:
            why = "; ".join(self.lock.missing)
            Screen.show(Note(f"No node of the pair could be locked. Be sure that nobody else is at work: {why}", "warning"))

    def _working(self) -> AbstractContextManager[None]:
        return self.lock.working() if self.lock else nullcontext()

    def _judge(self, title: str, checks: list[Check]) -> None:
        for check in checks:
            self.checks[check.name] = check
            self.record.add("check", **_plain(check))
        Screen.show(Checks(title, tuple(checks)) if checks else Note(f"{title}: nothing", "passed"))

    def _as_planned(self, checks: list[Check]) -> list[Check]:
        """In a dry run with changes still to make, what does not hold yet can hold only after them."""
        if not (self.dry_run and self.pending):
            return checks
        later: dict[str, Any] = {"status": "planned", "hint": ""}
        return [Check(**{**vars(c), **later}) if c.status in ("failed", "unknown") else c for c in checks]

    def _report(self, screen: Screen, step: Change, state: str, detail: str) -> None:
        if state == "started" and self.lock:
            self.lock.require()
        with suppress(AyaError):  # no room for the record: a change that was begun is brought to its end first
            self.record.add("change", **_plain(step), state=state, detail=detail)
        screen.step(step, state, detail)

    def _note(self, kind: str, shown: Shown | None, **content: Any) -> None:
        self.record.add(kind, **content)
        if shown is not None:
            Screen.show(shown)

    def _end(self, status: Status, line: str) -> None:
        outcome = "passed" if status == "warning" else status
        self.record.end(outcome, verdict={"status": outcome, "line": line})
        if self.lock:
            self.lock.release("the run had ended")


def _flat(checks: Iterable[Check | Iterable[Check]]) -> list[Check]:
    return [check for item in checks for check in ([item] if isinstance(item, Check) else item)]


def _count(checks: Iterable[Check], status: str) -> int:
    return sum(check.status == status for check in checks)


def _plain(item: Check | Change) -> dict[str, Any]:
    skip = ("action", "undo") if isinstance(item, Change) else ()
    return {key: value for key, value in vars(item).items() if key not in skip}


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _title(fact: Callable[..., object]) -> str:
    """``overview.look``, and ``failover.look`` also where the function stands in the subject's own ``look.py``."""
    *_, package, module = fact.__module__.split(".")
    return f"{package if module == 'look' else module}.{getattr(fact, '__name__', 'look')}"


def _default_path(site: str, name: str) -> Path:
    """Where a run that no runner began keeps its record: a person in JupyterLab, or plain papermill."""
    return settings.runs() / site / name / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"


__all__ = ["Runbook"]
