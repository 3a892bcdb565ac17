"""papermill's engine with the kernel in hand: interrupted on request, started with this interpreter, quiet."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aya_lib.runbook.kernel import Ahead


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Optional dependencies of what is imported inside seem not to be there, where nobody has loaded them yet."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an ImportError, as the language has it
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# Half of what papermill's import costs, for nothing: it asks pyarrow for Hadoop's file system.
with _without("pyarrow"):
    import papermill
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillException, PapermillExecutionError

logging.getLogger("papermill").setLevel(logging.CRITICAL)
NAME = "aya"
QUIET = ["--log-level=ERROR", "--HistoryManager.enabled=False"]


class Kernel(AsyncKernelManager):  # type: ignore[misc]
    """A kernel of the interpreter that runs us, whether or not a kernelspec is installed for it.

    The process is the one that was begun ahead (:attr:`ahead`), where there is one.
    """

    ahead: Ahead | None = None

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "aya_lib.runbook.kernel", "-f", "{connection_file}", *QUIET]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
        waiting, type(self).ahead = self.ahead, None
        if waiting is not None:
            with contextlib.suppress(BrokenPipeError):
                process = waiting.start(kernel_cmd[2:], options["env"], str(options.get("cwd") or os.getcwd()))
                self.provisioner.process, self.provisioner.pid = process, process.pid
                self.provisioner.pgid, self.provisioner.cwd = process.pid, options.get("cwd")
                self._reconcile_connection_info(self.provisioner.connection_info)
                return
        await super()._async_launch_kernel(kernel_cmd, **options)


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """Knows its kernel, so that :func:`interrupt` reaches the code that runs, and its context managers clean up."""

    current: Client | None = None
    grace_s = 60.0  # to undo what was begun

    def __init__(self, nb_man: Any, **options: Any) -> None:
        # All cells have ended when the kernel is shut down: asking it politely only costs seconds.
        super().__init__(nb_man, kernel_manager_class=Kernel, shutdown_kernel="immediate", **options)
        type(self).current = self

    def interrupt(self) -> bool:
        """SIGINT to the kernel; SIGKILL when it is still busy after ``grace_s``. False: there is none yet."""
        pid = self.kernel_pid
        if pid is None:
            return False
        _signal(pid, 2)
        timer = threading.Timer(self.grace_s, _signal, (pid, 9))
        timer.daemon = True
        timer.start()
        return True

    @property
    def kernel_pid(self) -> int | None:
        provisioner = getattr(self.km, "provisioner", None)
        return getattr(provisioner, "pid", None)


class Engine(NBClientEngine):  # type: ignore[misc]
    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
        known = ("input_path", "log_output", "stdout_file", "stderr_file", "start_timeout", "execution_timeout")
        options = {key: value for key, value in options.items() if key not in known}
        return Client(nb_man, timeout=None, startup_timeout=60, kernel_name=kernel_name, **options).execute()


@dataclass(frozen=True)
class Ending:
    """How an execution ended: every cell *ran*; a cell *raised*; the run itself *broke*, whatever its cells said; the kernel
    *died*. ``error`` is one line."""

    kind: Literal["ran", "raised", "broke", "died"]
    error: str = ""


def execute(source: Path, target: Path, values: Mapping[str, Any]) -> Ending:
    """Execute a notebook into ``target``."""
    options = {"kernel_name": "python3", "language": "python", "progress_bar": False}
    try:
        papermill.execute_notebook(str(source), str(target), dict(values), engine_name=NAME, **options)
    except DeadKernelError:
        return Ending("died", "the kernel died")
    except PapermillExecutionError as error:
        return Ending("raised", f"{error.ename}: {_line(error.evalue)}")
    except OSError as error:
        return Ending("broke", f"the executed notebook cannot be written to {target.parent}: {error.strerror or error}")
    except (PapermillException, RuntimeError, TimeoutError) as error:
        return Ending("broke", f"the notebook could not be executed: {_line(error)[:300]}")
    return Ending("ran")


def _line(error: object) -> str:
    return " ".join(str(error).split())


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


papermill_engines.register(NAME, Engine)
