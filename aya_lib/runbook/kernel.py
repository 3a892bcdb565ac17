"""The kernel of an unattended run: ipykernel's, without the debugger that nobody can attach to and everybody waits for."""

from __future__ import annotations

import os
import sys


def main() -> None:
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]  # as ipykernel_launcher does: a file beside the notebook must not stand in for a library
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # ipykernel takes it as not installed
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


if __name__ == "__main__":
    main()
