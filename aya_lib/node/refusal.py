"""Why a server refused a login, by its SQLSTATE, whatever language it speaks.

libpq keeps that of a failed login to itself. So the login is tried once more, with libpq's own trace of the protocol, which only
Linux has; elsewhere the words must do.
"""

from __future__ import annotations

import os
import re
import select
import time

import psycopg
from psycopg.pq import PGconn, PollingStatus

CANNOT_NOW, PASSWORD, NO_PARAMETER = "57P03", "28P01", "42704"  # appendix A of PostgreSQL's manual
STOPPING = ("57P01", "57P02")
# How PostgreSQL says these in English, for where there is no trace.
WORDS = {
    CANNOT_NOW: "starting up|shutting down|recovery mode|not yet accepting",
    PASSWORD: "password",
    NO_PARAMETER: "unrecognized configuration parameter",
}
ERROR = re.compile(r'\tErrorResponse\t.*? C "(\w{5})"')
SEVERITY = re.compile(r"failed: [^\W\d_ ]+(?: [^\W\d_]+)*:  (?=\S)")  # in any language: libpq puts two spaces behind it


def said(message: str) -> str:
    """What the server itself said, of libpq's message of a failed connect; empty when no server said anything."""
    found = SEVERITY.search(message)
    return " ".join(message[found.end() :].split()) if found else ""


def sqlstate(conninfo: str, message: str, limit_s: float) -> str:
    """The SQLSTATE by which a server refuses a login, which ``message`` tells in its words; empty when it is not known."""
    try:
        return _traced(conninfo, limit_s)
    except psycopg.Error:
        return next((state for state, words in WORDS.items() if re.search(words, message)), "")


def _traced(conninfo: str, limit_s: float) -> str:
    """Try it once more. :class:`psycopg.NotSupportedError` where there is no trace. The trace, which may hold a password that the
    server asks for in the clear, is never on a disk."""
    if not hasattr(os, "memfd_create"):
        raise psycopg.NotSupportedError
    due = time.monotonic() + limit_s
    with os.fdopen(os.memfd_create("trace"), "rb") as file:
        connection = PGconn.connect_start(conninfo.encode())
        try:
            connection.trace(os.dup(file.fileno()))
            while (state := connection.connect_poll()) not in (PollingStatus.OK, PollingStatus.FAILED):
                reads, left_s = state == PollingStatus.READING, max(0.0, due - time.monotonic())
                there = [connection.socket]
                if not any(select.select(there if reads else [], [] if reads else there, [], left_s)):
                    return ""
            connection.untrace()
        finally:
            connection.finish()
        file.seek(0)
        found = ERROR.findall(file.read().decode(errors="replace"))
    return found[-1] if found else ""
