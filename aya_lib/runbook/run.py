"""Run a runbook unattended: validated, locked, executed by papermill, followed by its record, ended with a verdict."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aya_lib import files, settings
from aya_lib.runbook import interruption, parameters
from aya_lib.runbook.kernel import Ahead
from aya_lib.runbook.lock import site_lock
from aya_lib.runbook.parameters import Declaration
from aya_lib.runbook.record import Record, heading
from aya_lib.site import made_site

if TYPE_CHECKING:
    from aya_lib.runbook.engine import Ending

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class RunResult:
    """``exit_code`` as the command line gives it; ``record`` as it is on disk; ``notebook``: the executed copy."""

    exit_code: int
    record: Mapping[str, Any]
    notebook: Path


def run(name: str, values: Mapping[str, Any], progress: Progress = lambda step: None) -> RunResult:
    """Execute a runbook with the given parameter values; ``progress`` hears each step of its record.

    Raises :class:`UsageError`, :class:`ParameterError`, :class:`SiteError` and :class:`Locked` before anything starts.
    """
    declaration = parameters.declared(parameters.find(name, settings.notebooks()))
    checked = parameters.validate(declaration, values)
    site = made_site(str(checked.get("site", "lab")))
    writes = declaration.changes_site and not declaration.own_lock and not checked.get("dry_run", False)
    with (
        site_lock(site.name, declaration.name, contents=declaration.contents) if writes else nullcontext(),
        _kernel_ahead(declaration.path),
    ):
        return _locked(declaration, checked, dict(values), site.name, progress, locked=writes)


@contextlib.contextmanager
def _kernel_ahead(notebook: Path) -> Iterator[None]:
    """The kernel loads its libraries while papermill is being loaded here, on another core."""
    ahead = Ahead(notebook)
    try:
        from aya_lib.runbook import engine

        engine.Kernel.ahead = ahead
        yield
    finally:
        ahead.drop()


def _locked(
    declaration: Declaration, checked: dict[str, Any], given: dict[str, Any], site: str, progress: Progress, *, locked: bool
) -> RunResult:
    record = _begin(declaration, checked, site)
    notebook = record.path.with_suffix(".ipynb")
    environment = {"AYA_RECORD": str(record.path), **({"AYA_LOCKED": "1"} if locked else {})}
    with _Stop(declaration.limit_s) as stop, _follow(record.path, progress):
        ending = _execute(declaration.path, notebook, given, environment, stop)
    return _finish(Record.load(record.path), notebook, ending, stop)


def _begin(declaration: Declaration, checked: dict[str, Any], site: str) -> Record:
    path = settings.runs() / site / declaration.name / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    return Record.begin(path, **heading(declaration.name, site, checked))


def _execute(source: Path, target: Path, values: dict[str, Any], environment: dict[str, str], stop: _Stop) -> Ending:
    """Execute the notebook with ``environment`` in its kernel's; a signal or the time limit interrupts it."""
    from aya_lib.runbook import engine

    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    try:
        stop.arm(engine.Client)
        with contextlib.redirect_stderr(io.StringIO()):
            return engine.execute(source, target, values)
    except KeyboardInterrupt:
        return engine.Ending("raised", stop.reason)
    finally:
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})


def _finish(record: Record, notebook: Path, ending: Ending, stop: _Stop) -> RunResult:
    verdict, error = record.content.get("verdict"), ending.error
    outcome, code = record.content["outcome"], int(record.content.get("exit_code", 0))
    if stop.reason and not verdict:
        how = str(record.content.get("error") or "").removeprefix("interrupted by SIGINT")  # what the runbook said of it
        outcome, code, error = stop.outcome, stop.exit_code, f"{stop.reason}{how}"
    elif outcome == "running":
        outcome, code = ("died" if ending.kind == "died" else "failed"), 1
        error = error or "the notebook ended without a verdict"
    elif not code:
        failed = outcome not in ("passed", "planned") or (error and verdict is None)
        code = 1 if failed or ending.kind in ("broke", "died") else 0
    record.end(outcome, error=error or None, exit_code=code, notebook=str(notebook))
    _settle(notebook, verdict["line"] if verdict else f"{outcome}: {error}")
    return RunResult(code, record.content, notebook)


def _settle(notebook: Path, line: str) -> None:
    """Put the verdict under the title, and leave no cell marked as running or pending."""
    import nbformat

    try:
        content = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError):
        return  # no notebook came to be: the record says why
    for cell in content.cells:
        state = cell.metadata.get("papermill", {})
        if state.get("status") in ("running", "pending"):
            state["status"] = "not run" if state["status"] == "pending" else "interrupted"
    first = next((cell for cell in content.cells if cell.cell_type == "markdown" and cell.source.startswith("# ")), None)
    if first is not None:
        title, _, rest = first.source.partition("\n")
        first.source = f"{title}\n\n> **{line}**\n{rest}"
    with contextlib.suppress(OSError):  # a full disk: the notebook as papermill left it is kept
        files.write(notebook, nbformat.writes(content))


class _Stop:
    """SIGINT, SIGTERM, SIGHUP and the time limit all do one thing: interrupt the kernel, so that its probes clean up."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.reason, self.outcome, self.exit_code = "", "interrupted", 130
        self._client: Any = None
        self._timer = threading.Timer(limit_s, self._too_long)
        self._handling = contextlib.ExitStack()

    def __enter__(self) -> _Stop:
        self._handling.enter_context(interruption.handled(self._signal))
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._handling.close()

    def arm(self, client: Any) -> None:
        """The engine's client class, whose ``current`` will be the one that runs."""
        client.current = None
        self._client = client

    def _signal(self, number: int, _: object) -> None:
        if self.reason and number == signal.SIGINT:
            os._exit(128 + number)  # a person asks twice: at once, the record stays as it is
        if self.reason:
            return  # a shutdown sends more than one, and what was begun is being undone
        self._interrupt(f"interrupted by {signal.Signals(number).name}", "interrupted", 128 + number)

    def _too_long(self) -> None:
        if self.reason:
            return  # a signal came first: it is what ended the run, however long the cleaning up takes
        self._interrupt(f"did not end within {self.limit_s:g} s", "died", 1)

    def _interrupt(self, reason: str, outcome: str, exit_code: int) -> None:
        self.reason, self.outcome, self.exit_code = reason, outcome, exit_code
        current = self._client.current if self._client else None
        interrupted = current is not None and current.interrupt()
        if not interrupted and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt


@contextlib.contextmanager
def _follow(path: Path, progress: Progress) -> Iterator[None]:
    """Hand each new step of the record to ``progress`` while the notebook runs."""
    ended = threading.Event()
    shown = 0

    def show() -> None:
        nonlocal shown
        with contextlib.suppress(Exception):  # the record is being replaced: the next look has it
            steps = Record.load(path).content["steps"]
            for step in steps[shown:]:
                progress(step)
                shown += 1

    def watch() -> None:
        while not ended.wait(0.1):
            show()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        show()


__all__ = ["RunResult", "run"]
