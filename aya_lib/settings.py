"""Where the project finds and keeps things. Read from the environment when asked, never at import."""

from __future__ import annotations

import os
from pathlib import Path


def _place(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else default


def home() -> Path:
    """The project's folder: ``AYA_HOME``, else the checkout that this package was installed from."""
    return _place("AYA_HOME", Path(__file__).resolve().parent.parent)


def parameters() -> Path:
    """One folder a site, each with its ``site.yaml``: ``AYA_PARAMETERS``, else ``parameters/``."""
    return _place("AYA_PARAMETERS", home() / "parameters")


def notebooks() -> Path:
    """The runbooks: ``AYA_NOTEBOOKS``, else ``notebooks/``."""
    return _place("AYA_NOTEBOOKS", home() / "notebooks")


def runs() -> Path:
    """Executed notebooks and run records: ``AYA_RUNS``, else ``runs/``."""
    return _place("AYA_RUNS", home() / "runs")


def lab_ports() -> tuple[int, int]:
    """Where ``aya lab new`` looks for free ports: ``AYA_LAB_PORTS``, first and last as ``20000-20499``, else 20000 to 31999."""
    first, _, last = os.environ.get("AYA_LAB_PORTS", "20000-31999").partition("-")
    return int(first), int(last)


def here() -> str | None:
    """The node that this machine is, ``AYA_NODE``: its own services are then reached without ssh. The units set it."""
    return os.environ.get("AYA_NODE") or None
