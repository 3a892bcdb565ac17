"""A real sshd with keys of its own, and the configuration of a client that trusts it."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from aya_lib.node import wait

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


def key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


@contextmanager
def sshd(folder: Path, address: str, port: int, *within: str) -> Iterator[Path]:
    """Listens on the address; its log. ``within``: words that run a program on another host."""
    folder.mkdir(exist_ok=True)
    host, client = key(folder / "host"), key(folder / "client")
    (folder / "authorized_keys").write_text(client)
    (folder / "known_hosts").write_text(f"[{address}]:{port} {' '.join(host.split()[:2])}\n")
    options = {
        "Port": port,
        "ListenAddress": address,
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "LogLevel": "VERBOSE",
    }
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([*within, SSHD, "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")])
    try:
        wait.until((folder / "pid").exists, bool, node="sshd", what="it listens", deadline_s=60)
        yield folder / "log"
    finally:
        sessions = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(10)
        for session in sessions:  # they outlive the one that listens, for ever where their link was cut
            with suppress(psutil.NoSuchProcess):
                session.kill()


def client(folder: Path, name: str, host: str, address: str, port: int, **changed: str) -> Path:
    """The client's configuration, in a file called ``name``; ``changed`` replaces options of it."""
    options = {
        "HostName": address,
        "Port": str(port),
        "User": getpass.getuser(),
        "IdentityFile": str(folder / "client"),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(folder / "known_hosts"),
        "GlobalKnownHostsFile": os.devnull,
    } | changed
    path = folder / name
    path.write_text(f"Host {host}\n" + "".join(f"  {key} {value}\n" for key, value in options.items()))
    return path
