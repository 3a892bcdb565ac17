"""Where the project finds and keeps things. Read from the environment when asked, never at import."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MARKER = ".aya-home"  # in a folder that `aya init` laid out


def _place(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else default


def shipped() -> Path:
    """Notebooks, sites and pages as they come with the package."""
    return Path(__file__).resolve().parent / "shipped"


def folder() -> Path | None:
    """The folder in which somebody works: ``AYA_HOME``, else the one around here that ``aya init`` laid out, else the checkout
    that this package was installed from. None: it was installed as a wheel, and none was laid out."""
    if value := os.environ.get("AYA_HOME"):
        return Path(value).expanduser().absolute()
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was deleted meanwhile
        here = Path("/")
    checkout = Path(__file__).resolve().parent.parent
    around = next((place for place in (here, *here.parents) if (place / MARKER).is_file()), None)
    return around or (checkout if (checkout / "pyproject.toml").is_file() and (checkout / "notebooks").is_dir() else None)


def home() -> Path:
    """What relative paths of a runbook stand below: :func:`folder`, else what is :func:`shipped`."""
    return folder() or shipped()


def parameters() -> Path:
    """One folder a site, each with its ``site.yaml``: ``AYA_PARAMETERS``, else ``parameters/`` of the :func:`folder`; without
    one, the user's own configuration, and what is shipped until there is one."""
    work = folder()
    own = work / "parameters" if work else _user("config") / "parameters"
    return _place("AYA_PARAMETERS", own if work or own.is_dir() else shipped() / "parameters")


def own_parameters() -> Path:
    """:func:`parameters`, as a folder to write into: the user's own is made from what is shipped."""
    found = parameters()
    if found == shipped() / "parameters":
        found = _user("config") / "parameters"
        shutil.copytree(shipped() / "parameters", found)
    return found


def notebooks() -> Path:
    """The runbooks: ``AYA_NOTEBOOKS``, else ``notebooks/``."""
    return _place("AYA_NOTEBOOKS", home() / "notebooks")


def runs() -> Path:
    """Executed notebooks and run records: ``AYA_RUNS``, else ``runs/`` of the :func:`folder`, else in the user's state."""
    return _place("AYA_RUNS", (folder() or _user("state")) / "runs")


def _user(kind: str) -> Path:
    import platformdirs

    return Path(platformdirs.user_config_dir("aya") if kind == "config" else platformdirs.user_state_dir("aya"))


def lab_ports() -> tuple[int, int]:
    """Where ``aya lab new`` looks for free ports: ``AYA_LAB_PORTS``, first and last as ``20000-20499``, else 20000 to 31999."""
    first, _, last = os.environ.get("AYA_LAB_PORTS", "20000-31999").partition("-")
    return int(first), int(last)


def here() -> str | None:
    """The node that this machine is, ``AYA_NODE``: its own services are then reached without ssh. The units set it."""
    return os.environ.get("AYA_NODE") or None
