"""Why a server is down or does not follow, as its own log says since its last start: the cause, what it means, what to do.

Read by SQLSTATE where the log carries it (csvlog, jsonlog, ``%e`` in log_line_prefix), else by what no language translates, such
as names of files and settings, and by PostgreSQL's own English.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from aya_lib import secrets
from aya_lib.node.node import Node
from aya_lib.node.pidfile import log_file
from aya_lib.node.unseen import looking

LINES = 300  # of the log's end: a walreceiver that tries again every five seconds writes some twenty of them a minute
# The file that was written last: that of the logging collector, or where the server's stderr goes.
TAIL = """cd "$1" 2>/dev/null
own=$(sort current_logfiles 2>/dev/null | sed 's/^[a-z]* //' | head -1)
file=$(ls -td -- ${own:+"$own"} ${2:+"$2"} 2>/dev/null | head -1)
if [ -n "$file" ]; then echo "$file"; tail -n "$3" -- "$file"
else echo "no log file is known: neither current_logfiles nor ${2:-a file of its supervisor} is there" >&2; exit 1; fi"""
BEGINS = re.compile(r"PostgreSQL \d[\w.]* .*\b\d\d-bit|started streaming WAL|WAL-Streaming.*gestartet")
ASKED = re.compile(r"received (fast|smart|immediate) shutdown request")
FATAL = re.compile(r"FATAL|PANIC|PANIK")
# What a client was told, which says nothing about the server.
CLIENT = re.compile(
    r"(?:ERROR|FEHLER):"
    r"|FATAL:  (?:terminating (?:connection|background|walreceiver process due to admin)|the database system is|canceling auth"
    r"|(?:\w+ )?authentication failed|no pg_hba\.conf entry|pg_hba\.conf rejects|role .* (?:does not exist|is not permitted)"
    r"|database .* does not exist|sorry, too many|remaining connection|too many conn|permission denied|connection to client)"
)
SEVERITY = re.compile(r"\b[^\W\d_]+:  (?=\S)")
STATES = re.compile(r"\b00000\b|^[0-9A-Z]{5} \w+:  ")  # the log carries SQLSTATEs
SHORT = 20  # characters by which a message is found again behind its prefix
MORE = re.compile("DETAIL|HINT|TIPP|HINWEIS")
QUOTED = re.compile("STATEMENT|ANWEISUNG|CONTEXT|KONTEXT")
SHOWN = 300  # characters of a line that are shown
KEPT = 60  # lines that go into a run's record
PEER = r"(?:primary server|walreceiver|WAL stream|08006).*"  # a receiver that quotes what the other server said


@dataclass(frozen=True)
class Reason:
    """A row of ``reasons.yaml``, where the names that its texts hold are explained."""

    pattern: str
    means: str
    next: str
    states: str = ""


@dataclass(frozen=True)
class Log:
    """``file`` and the last ``lines`` of it, each with its SQLSTATE in front where the log has one."""

    node: str
    file: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Cause:
    """The ``line`` that tells, what it ``means`` (empty: nobody knows here), and what to do ``next``."""

    line: str
    means: str
    next: str

    def __str__(self) -> str:
        return f"{self.means}: {self.line}" if self.means else self.line


@looking("read the server's log")
def look(node: Node) -> Log:
    """The end of the server's log, wherever that is; :class:`Unseen` when there is none to be found."""
    file, text = tail(node, "postgresql", LINES)
    return Log(node.name, file, parse(text))


def tail(node: Node, service: str, lines: int) -> tuple[str, str]:
    """Where a service's log is, and the end of it; under systemd the journal, where there is no file."""
    supervisor, unit = node.config.supervisor, node.supervisor.units[service]
    own = {"process": str(log_file(node, service)), "launchd": f"/var/log/{unit}.log"}.get(supervisor, "")
    directory = node.data_directory if service == "postgresql" else "/nowhere"
    output = node.shell.run(["sh", "-c", TAIL, "sh", str(directory), own, str(lines)], account=node.account)
    if output.status and supervisor == "systemd":
        journal = [*(["sudo", "-n"] if node.config.sudo else []), "journalctl", "-u", unit]
        return " ".join(journal), node.shell.run([*journal, "-n", str(lines), "-o", "cat", "--no-pager"]).checked().stdout
    file, _, text = output.checked().stdout.partition("\n")
    return file, text


def fatal(found: Log) -> str:
    """The last FATAL or PANIC, with the line before it that says where, and what belongs to it; else empty."""
    last = max((number for number, line in enumerate(found.lines) if FATAL.search(line)), default=None)
    if last is None:
        return ""
    before = [
        line for line in found.lines[max(0, last - 1) : last] if "LOG:" in line and re.search("error|invalid|unrecog", line)
    ]
    return "; ".join(part.strip() for line in (*before, found.lines[last]) for part in SEVERITY.split(line)[1:])


def parse(text: str) -> tuple[str, ...]:
    """Messages of a log in any of its three forms, each with its details in one line, since the server's last start and the last
    time it began to stream. A client's statements are left out: they may hold anything."""
    lines: list[str] = []
    for line in _lines(text):
        found = SEVERITY.search(line)
        if found and MORE.match(found[0]) and lines:
            lines[-1] += f" {secrets.mask(line[found.start() :])}"
        elif found and not QUOTED.match(found[0]):
            lines.append(secrets.mask(line))
    begins = [number for number, line in enumerate(lines) if BEGINS.search(line)]
    return tuple(lines[begins[-1] + 1 if begins else 0 :][-KEPT:])


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            yield _joined(*(str(entry.get(key, "")) for key in ("state_code", "error_severity", "message", "detail")))
        elif re.match(r'[\d-]{10} [\d:.]+ \w+,("|,)', line):
            fields = next(csv.reader([line]))
            if len(fields) > 14:
                yield _joined(*(fields[column] for column in (12, 11, 13, 14)))
        elif not line.startswith("\t"):
            yield line


def _joined(state: str, severity: str, message: str, detail: str) -> str:
    return f"{state} {severity}:  {message} {detail}".strip()


@cache
def reasons() -> tuple[Reason, ...]:
    rows = yaml.safe_load(resources.files(__package__).joinpath("reasons.yaml").read_text(encoding="utf-8"))
    return tuple(Reason(**{**row, "pattern": row["pattern"].replace("PEER ", PEER)}) for row in rows)


def cause(log: Log, *, peer: str, data: object, port: int) -> Cause | None:
    """The last line that tells why; None when none does, or when somebody asked the server to stop."""
    has_states = any(STATES.search(line) for line in log.lines)
    words = {"node": log.node, "peer": peer, "data": data, "port": port}
    unknown = None
    for line in reversed(log.lines):
        if ASKED.search(line):
            break
        text = _short(line)
        if CLIENT.match(text):
            continue
        told = set(re.findall(r"(?<![\[.:\d])\b[0-9A-Z]{5}\b", line.split(text[:SHORT], 1)[0])) if has_states else set()
        for reason in reasons():
            found = re.search(reason.pattern, line)
            if found or told & set(reason.states.split()):
                it = found[1] if found and found.re.groups else ""
                return Cause(text, reason.means.format(**words, it=it), reason.next.format(**words, it=it))
        if unknown is None and FATAL.match(text):
            unknown = Cause(text, "", f"Read {log.node}'s log {log.file}")
    return unknown


def _short(line: str) -> str:
    """From its severity on: what stands before is a time and a PID."""
    found = SEVERITY.search(line)
    return (line[found.start() :] if found else line)[:SHOWN]
