"""A server without network, on a data directory that serves nobody: to finish its recovery, and to read what it has."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from aya_lib.errors import UsageError
from aya_lib.node.node import Node
from aya_lib.node.shell import Output, read

RECOVERY_S = 3600  # replaying max_wal_size of WAL takes seconds to minutes
QUERY_S = 3600  # one table that is read as a whole
LOCKED = "SET lock_timeout = '10s';"  # replay may stand within a transaction that locked a table, and give it back never
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


def is_scratch(postmaster_pid: str) -> bool:
    """Whether a postmaster.pid is that of a server without network: its sixth line, the first listen address, is empty."""
    lines = postmaster_pid.split("\n")
    return len(lines) > 7 and not lines[5].strip()


@contextmanager
def server(node: Node, directory: Path, folder: Path) -> Iterator[Path]:
    """Runs the server while the block lasts and gives the folder of its socket. Its log and access rules stand in ``folder``.

    The socket stands in the data directory, which only the cluster's account may enter; one that a killed run left is ended
    first. Raises :class:`CommandFailed` when the server does not come up.
    """
    try:
        start(node, directory, folder, SETTINGS).checked(hint=f"Its log is {log(folder)}")
        yield sockets(node, directory)
    finally:
        end(node, directory)


def start(node: Node, directory: Path, folder: Path, settings: Mapping[str, str], *, wait: bool = True) -> Output:
    """pg_ctl start, in place of one that a killed run left. Without ``wait`` nobody knows yet how it goes on."""
    end(node, directory)
    rules = folder / "scratch.hba"
    script = f"echo 'local all all trust' > {shlex.quote(str(rules))}"
    node.shell.run(["sh", "-c", script], account=node.account).checked()
    values = {**settings, "unix_socket_directories": str(sockets(node, directory)), "hba_file": str(rules)}
    options = shlex.join(word for name, value in values.items() for word in ("-c", f"{name}={value}"))
    how = ("-w", "-t", str(RECOVERY_S)) if wait else ("-W",)
    words = ("start", "-s", *how, "-D", str(directory), "-l", str(log(folder)), "-o", options)
    return node.postgresql("pg_ctl", *words, timeout_s=RECOVERY_S + 5)


def log(folder: Path) -> Path:
    return folder / "scratch.log"


def end(node: Node, directory: Path) -> None:
    """End the scratch server if one runs; take away a PID file whose process is gone. :class:`UsageError` for another server."""
    text = read(node.shell, directory / "postmaster.pid", account=node.account)
    if text is None:
        return
    said = running(node, text)
    if said is None:
        node.shell.run(["rm", "-f", str(directory / "postmaster.pid")], account=node.account).checked()
    elif is_scratch(text):
        words = ("stop", "-s", "-w", "-t", str(RECOVERY_S), "-m", "fast", "-D", str(directory))
        node.postgresql("pg_ctl", *words, timeout_s=RECOVERY_S + 5).checked()
    else:
        hint = "Stop it, then run it again"
        raise UsageError(f"{node.name}: a server runs on {directory}: {said}", hint=hint)


def running(node: Node, postmaster_pid: str) -> str | None:
    """The process that a postmaster.pid names, as ps shows it; None when it is gone, or is no server."""
    output = node.shell.run(["ps", "-o", "stat=,args=", "-p", postmaster_pid.split("\n")[0].strip()], account=node.account)
    gone = output.status != 0 or "postgres" not in output.stdout or output.stdout.lstrip().startswith("Z")
    return None if gone else output.stdout.strip()


def psql(node: Node, sockets: Path, database: str, query: str, *options: str) -> str:
    """What a query gives on a scratch server. The query goes by standard input: it may be long."""
    return ask(node, sockets, database, query, *options).checked().stdout


def ask(node: Node, sockets: Path, database: str, query: str, *options: str, timeout_s: float = QUERY_S) -> Output:
    """The same, with the status left to the caller: a server that is starting says no."""
    where = ("-h", str(sockets), "-p", str(node.config.postgresql.port), "-U", node.site.database.owner, "-d", database)
    words = ("-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", *where, *options)
    return node.postgresql("psql", *words, stdin=f"{LOCKED}\n{query};\n", timeout_s=timeout_s)


def sockets(node: Node, directory: Path) -> Path:
    """Where its socket stands: the data directory, or a short folder of its own where the path would be too long."""
    if len(str(directory).encode()) <= SOCKET:
        return directory
    folder = Path("/tmp") / f"aya-{sha256(str(directory).encode()).hexdigest()[:12]}"
    made = f"mkdir -m 0700 {folder} 2>/dev/null || test -O {folder}"
    node.shell.run(["sh", "-c", made], account=node.account).checked(hint=f"{folder} belongs to somebody else")
    return folder
