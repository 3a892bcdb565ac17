"""papermill's engine with the kernel in hand: interrupted on request, started with this interpreter, quiet."""

from __future__ import annotations

import sys
import threading
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

NAME = "aya"
QUIET = ["--log-level=ERROR", "--HistoryManager.enabled=False"]


class Kernel(AsyncKernelManager):  # type: ignore[misc]
    """A kernel of the interpreter that runs us, whether or not a kernelspec is installed for it."""

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", *QUIET]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """Knows its kernel, so that :func:`interrupt` reaches the code that runs, and its context managers clean up."""

    current: Client | None = None
    grace_s = 10.0

    def __init__(self, nb_man: Any, **options: Any) -> None:
        # All cells have ended when the kernel is shut down: asking it politely only costs seconds.
        super().__init__(nb_man, kernel_manager_class=Kernel, shutdown_kernel="immediate", **options)
        type(self).current = self

    def interrupt(self) -> None:
        """SIGINT to the kernel; SIGKILL when it is still busy after ``grace_s``."""
        pid = self.kernel_pid
        if pid is None:
            return
        _signal(pid, 2)
        timer = threading.Timer(self.grace_s, _signal, (pid, 9))
        timer.daemon = True
        timer.start()

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


def _signal(pid: int, number: int) -> None:
    import os

    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


papermill_engines.register(NAME, Engine)
