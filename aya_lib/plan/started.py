"""What was started is looked at until it answers. An exit status of 0 is no proof: ``pg_ctl start -w`` gives it also for a
standby that ended at once, and launchd and systemd give it for whatever they tried."""

from __future__ import annotations

import time

from aya_lib.cluster import log
from aya_lib.errors import AyaError, CommandFailed, DeadlinePassed, MissingProgram, SqlFailed, Unreachable
from aya_lib.node.node import Node
from aya_lib.node.sql import NotAccepting, NotListening, Refused

GONE_S = 1.0  # seen not to run for so long: a supervisor that starts it again has had its turn
POLL_S = 0.1
LINES = 30  # of the end of a log that is not PostgreSQL's


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
            said, where = last_words(node, service)
            line = f"{node.name}: {service} was started and has ended: {said}"
            raise AyaError(line, hint=f"Mend that, and run it again. The log: {where}")
        if time.monotonic() >= due:
            if said and "takes no sessions" in said:
                return  # in recovery, which takes its time: whoever waits for it sees how far it comes
            last = said or str(state)
            raise DeadlinePassed(
                node.name, f"{service} was started", f"no answer within {node.site.deadlines.start_s:g} s: {last}"
            )
        time.sleep(POLL_S)


def last_words(node: Node, service: str) -> tuple[str, str]:
    """Why a service ended, as its log's end says it: of PostgreSQL the last FATAL, of others the last lines; and where it is."""
    try:
        if service == "postgresql":
            found = log.look(node)
            said, where = (log.fatal(found), found.file) if isinstance(found, log.Log) else ("", str(found))
        else:
            where, said = log.tail(node, service, LINES)
    except (CommandFailed, MissingProgram, Unreachable) as error:
        said, where = "", str(error)
    return " ".join(said.split())[-600:].rstrip(".") or "its log says nothing", where


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
