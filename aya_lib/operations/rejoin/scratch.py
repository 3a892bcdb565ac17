"""An old data directory, started once more without network: to finish its crash recovery, and to read what it has."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from aya_lib.errors import UsageError
from aya_lib.node.node import Node
from aya_lib.node.shell import read
from aya_lib.operations.rejoin.staging import is_scratch

RECOVERY_S = 3600  # replaying max_wal_size of WAL takes seconds to minutes
# No way in but the socket, nothing that writes, nothing that is sent away, and no WAL recycled that pg_rewind may need.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "default_transaction_read_only": "on",
    "archive_mode": "off",
    "restore_command": "",
    "primary_conninfo": "",
    "recovery_target_timeline": "current",
    "synchronous_standby_names": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "autovacuum": "off",
    "wal_keep_size": "2000000000MB",
    "max_slot_wal_keep_size": "-1",
    "summarize_wal": "off",
    "logging_collector": "off",
    "ssl": "off",
    "external_pid_file": "",
    "cluster_name": "aya scratch",
}
SOCKET = 80  # bytes of a folder that a socket's path has room for (macOS: 104 in all)


@contextmanager
def started(node: Node, folder: Path) -> Iterator[Path]:
    """Runs the server while the block lasts and gives the folder of its socket. Its log and access rules stand in ``folder``.

    The socket stands in the data directory, which only the cluster's account may enter; one that a killed run left is ended
    first. Raises :class:`CommandFailed` when the server does not come up.
    """
    stop(node)
    sockets = _sockets(node)
    rules, log = folder / "scratch.hba", folder / "scratch.log"
    script = f"echo 'local all all trust' > {shlex.quote(str(rules))}"
    node.shell.run(["sh", "-c", script], account=node.account).checked()
    values = {**SETTINGS, "unix_socket_directories": str(sockets), "hba_file": str(rules)}
    options = shlex.join(word for name, value in values.items() for word in ("-c", f"{name}={value}"))
    words = ("start", "-s", "-w", "-t", str(RECOVERY_S), "-D", str(node.data_directory), "-l", str(log), "-o", options)
    try:
        node.postgresql("pg_ctl", *words, timeout_s=RECOVERY_S + 5).checked(hint=f"Its log is {log}")
        yield sockets
    finally:
        stop(node)


def stop(node: Node) -> None:
    """End the scratch server if one runs; take away a PID file whose process is gone. :class:`UsageError` for another server."""
    path = node.data_directory / "postmaster.pid"
    text = read(node.shell, path, account=node.account)
    if text is None:
        return
    output = node.shell.run(["ps", "-o", "stat=,args=", "-p", text.split("\n")[0].strip()], account=node.account)
    if output.status != 0 or "postgres" not in output.stdout or output.stdout.lstrip().startswith("Z"):
        node.shell.run(["rm", "-f", str(path)], account=node.account).checked()
    elif is_scratch(text):
        words = ("stop", "-s", "-w", "-t", str(RECOVERY_S), "-m", "fast", "-D", str(node.data_directory))
        node.postgresql("pg_ctl", *words, timeout_s=RECOVERY_S + 5).checked()
    else:
        hint = "Stop it, then run rejoin again"
        raise UsageError(f"{node.name}: a server runs on {node.data_directory}: {output.stdout.strip()}", hint=hint)


@dataclass(frozen=True)
class Stop:
    """End a scratch server that a killed run left."""

    def command(self, node: Node) -> str:
        return f"pg_ctl stop -m fast -D {node.data_directory}"

    def run(self, node: Node) -> None:
        stop(node)


def _sockets(node: Node) -> Path:
    here = node.data_directory
    if len(str(here).encode()) <= SOCKET:
        return here
    folder = Path("/tmp") / f"aya-{sha256(str(here).encode()).hexdigest()[:12]}"
    made = f"mkdir -m 0700 {folder} 2>/dev/null || test -O {folder}"
    node.shell.run(["sh", "-c", made], account=node.account).checked(hint=f"{folder} belongs to somebody else")
    return folder
