"""What was started is looked at until it answers. An exit status of 0 is no proof: ``pg_ctl start -w`` gives it also for a
standby that ended at once, and launchd and systemd give it for whatever they tried."""

from __future__ import annotations

import re
import time

from aya_lib.errors import AyaError, CommandFailed, DeadlinePassed, MissingProgram, SqlFailed, Unreachable
from aya_lib.node import pidfile
from aya_lib.node.node import Node
from aya_lib.node.sql import NotAccepting, NotListening, Refused

GONE_S = 1.0  # seen not to run for so long: a supervisor that starts it again has had its turn
POLL_S = 0.1
LINES = 30  # of a log's end: what an attempt to start leaves there
# The end of the log that was written last: PostgreSQL's own, where its collector has begun, or the one that it is started with.
NEWEST = (
    'cd "$1"; own=$(awk "{print \\$2; exit}" current_logfiles 2>/dev/null); '
    'tail -n "$2" -- "$(ls -t $own "$3" 2>/dev/null | head -n 1)"'
)
ANNOUNCED = re.compile(r"\b(FATAL|PANIC|ERROR|LOG|DETAIL|HINT|CONTEXT|WARNING):\s+")


def until_it_answers(node: Node, service: str) -> None:
    """Return when the service answers. :class:`AyaError` with the last FATAL of its log when it ended, and when it still says
    nothing after ``start_s``. A PostgreSQL that recovers, or takes no more sessions, is there."""
    due, gone = time.monotonic() + node.site.deadlines.start_s, None
    while True:
        said = _answers(node) if service == "postgresql" else None
        if said == "":
            return
        state = node.supervisor.state(service)
        runs = state.status in ("running", "frozen")
        if said is None and runs:
            return
        gone = None if runs else gone or time.monotonic()
        if gone and (state.status == "failed" or time.monotonic() - gone >= GONE_S):
            line = f"{node.name}: {service} was started and has ended: {last_words(node, service)}"
            raise AyaError(line, hint=f"Mend that, and run it again. The log: {' '.join(_log(node, service))}")
        if time.monotonic() >= due:
            if said and "takes no sessions" in said:
                return  # in recovery, which takes its time: whoever waits for it sees how far it comes
            last = said or str(state)
            raise DeadlinePassed(
                node.name, f"{service} was started", f"no answer within {node.site.deadlines.start_s:g} s: {last}"
            )
        time.sleep(POLL_S)


def last_words(node: Node, service: str) -> str:
    """Why a service ended, as its log's end says it: of PostgreSQL the last FATAL, of others the last lines."""
    said = _output(node, _log(node, service))
    if service == "postgresql":
        newest = ["sh", "-c", NEWEST, "sh", str(node.data_directory), str(LINES), _log(node, service)[-1]]
        said = (fatal(said) if "journalctl" in _log(node, service) else "") or fatal(_output(node, newest))
    return " ".join(said.split())[-600:].rstrip(".") or "its log says nothing"


def fatal(log: str) -> str:
    """The last FATAL or PANIC of PostgreSQL's log, with the line before it that says where, and what belongs to it; else ''."""
    lines = [line for line in log.splitlines() if line.strip()]
    last = max((number for number, line in enumerate(lines) if re.search(r"\b(FATAL|PANIC):", line)), default=None)
    if last is None:
        return ""
    before = [line for line in lines[max(0, last - 1) : last] if "LOG:" in line and re.search("error|invalid|unrecognized", line)]
    after = []
    for line in lines[last + 1 :]:
        if not re.search(r"\b(DETAIL|HINT):", line):
            break
        after.append(line)
    return "; ".join(ANNOUNCED.split(line, 1)[-1].strip() for line in (*before, lines[last], *after))


def _answers(node: Node) -> str:
    """'' when the server takes a session, or refuses it for a reason of its own; else why nothing is known yet."""
    try:
        with node.session(database="postgres"):
            return ""
    except (NotListening, NotAccepting, DeadlinePassed) as error:
        return f"{'takes no sessions: ' if isinstance(error, NotAccepting) else ''}{error.reason}"
    except Refused:
        return ""
    except (SqlFailed, Unreachable) as error:
        return str(error)


def _log(node: Node, service: str) -> list[str]:
    unit = node.supervisor.units[service]
    sudo = ["sudo", "-n"] if node.config.sudo else []
    match node.config.supervisor:
        case "systemd":
            return [*sudo, "journalctl", "-u", unit, "--since", "-2min", "-o", "cat", "--no-pager"]
        case "launchd":
            return ["tail", "-n", str(LINES), f"/var/log/{unit}.log"]
        case _:
            return ["tail", "-n", str(LINES), str(pidfile.log_file(node, service))]


def _output(node: Node, argv: list[str]) -> str:
    account = node.account if argv[0] == "sh" else None
    try:
        output = node.shell.run(argv, account=account, timeout_s=node.site.deadlines.command_s)
        return output.stdout if output.status == 0 else ""
    except (CommandFailed, MissingProgram, Unreachable):
        return ""
