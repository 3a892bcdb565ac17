"""The kernel of an unattended run: ipykernel's, without the debugger that nobody can attach to and everybody waits for.

It is begun ahead of its use: while the runner still loads papermill, it loads ipykernel and what the notebook imports, and
then waits for one line on stdin that says how it is to be started.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class Ahead:
    """A process that is about to become the kernel of ``notebook``; without a :meth:`start` it ends with this one."""

    def __init__(self, notebook: Path) -> None:
        command = [sys.executable, "-m", "aya_lib.runbook.kernel", "--ahead", str(notebook)]
        self.parent = {"JPY_PARENT_PID": str(os.getpid())}  # as jupyter_client's launcher: the kernel ends with its runner
        environment = {**os.environ, **self.parent}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, text=True, env=environment)

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> subprocess.Popen[str]:
        """Hand over command line, environment and folder. BrokenPipeError: it has ended, the kernel's own start says why."""
        assert self.process.stdin is not None
        json.dump({"argv": list(argv), "env": {**self.parent, **env}, "cwd": cwd}, self.process.stdin)
        self.process.stdin.close()
        return self.process

    def drop(self) -> None:
        """End it, if nobody has started it."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
            self.process.wait()


def load(notebook: Path) -> None:
    """Import what the notebook's cells import of this project. What cannot be read or imported is the cell's to say."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        lines = "".join(cell["source"]).splitlines() if cell["cell_type"] == "code" else []
        for line in lines:
            if line.startswith("from aya_lib"):
                exec(line, {})


def main() -> None:
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]  # as ipykernel_launcher does: a file beside the notebook must not stand in for a library
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # ipykernel takes it as not installed
    from ipykernel.kernelapp import launch_new_instance

    if sys.argv[1:2] == ["--ahead"]:
        with contextlib.suppress(Exception):
            load(Path(sys.argv[2]))
        line = sys.stdin.read()
        if not line:
            os._exit(0)  # the runner has ended before there was anything to execute
        begin = json.loads(line)
        os.environ.clear()
        os.environ.update(begin["env"])
        os.chdir(begin["cwd"])
        sys.argv = begin["argv"]
    launch_new_instance()


if __name__ == "__main__":
    main()
