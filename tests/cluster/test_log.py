"""Why a server is down or does not follow, by what its log says: recorded lines, in each form that a log has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aya_lib.cluster import log
from aya_lib.cluster.log import Cause, Log

START = "2026-01-01 10:00:00.000 UTC [7] LOG:  starting PostgreSQL 18.1 on x86_64-pc-linux-gnu, compiled by gcc, 64-bit"
STREAMS = "2026-01-01 10:00:01.000 UTC [9] LOG:  started streaming WAL from primary at 0/3000000 on timeline 1"
AT = "2026-01-01 10:00:02.000 UTC [7] "
RECEIVER = 'FATAL:  streaming replication receiver "beta" could not connect to the primary server: connection to "h" failed: '
WAL = "000000010000000000000003"
MODE = 'FATAL:  data directory "/data" has invalid permissions\nx DETAIL:  Permissions should be u=rwx (0700).'
SYNTAX = 'LOG:  syntax error in file "/data/postgresql.conf" line 7, near token "x"\nx FATAL:  configuration file contains errors'
PORT = 'LOG:  could not bind "127.0.0.1": Address already in use\nx HINT:  Is it?\nx FATAL:  could not create any TCP/IP sockets'
SMALL = "max_connections = 60 is a lower setting than on the primary server, where its value was 90."
CSV = '2026-01-01 10:00:02.000 UTC,,,7,,6.7,1,,2026-01-01 10:00:00 UTC,,0,PANIK,53100,"kein Platz, leider",,,,,,,,,,,,0'


def cause(text: str) -> Cause | None:
    return log.cause(Log("BETA", "/log", log.parse(text)), peer="ALPHA", data=Path("/data"), port=5433)


@pytest.mark.parametrize(
    ("line", "means", "then"),
    [
        (RECEIVER + "FATAL:  no pg_hba.conf entry for replication", "ALPHA does not let it in", "pg_hba.conf on ALPHA"),
        (RECEIVER + 'FATAL:  password authentication failed for user "r"', "replication password", "password file"),
        (RECEIVER + 'FATAL:  role "r" is not permitted to log in', "may not replicate", "LOGIN REPLICATION"),
        (RECEIVER + "Connection refused", "ALPHA does not answer", "Bring ALPHA back"),
        (f"FATAL:  could not receive data: ERROR:  requested WAL segment {WAL} has been removed", f"has the WAL {WAL}", "rejoin"),
        ("FATAL:  requested timeline 2 is not a child of this server's history", "not part of ALPHA's history", "rejoin"),
        ("LOG:  new timeline 3 forked off current database system timeline 2", "not part of ALPHA's history", "rejoin"),
        ("PANIC:  could not write to file: No space left on device", "disk of BETA is full", "df -h /data"),
        (MODE, "mode or owner", "chmod 0700 /data"),
        (SYNTAX, "configuration file cannot be read", "Correct that line"),
        ("LOG:  Syntaxfehler in Datei »/data/postgresql.conf« Zeile 7, bei »x«", "configuration file cannot be read", "BETA"),
        (PORT, "another program holds its port 5433", "ss -ltnp"),
        ("FATAL:  recovery ended before configured recovery target was reached", "a recovery setting", "postgresql.auto.conf"),
        (f"WARNING:  hot standby is not possible\nx DETAIL:  {SMALL}", "smaller than ALPHA's", "raise it"),
        ("FATAL:  something that nobody has seen before", "", "Read BETA's log /log"),
    ],
)  # fmt: skip
def test_a_line_of_the_log_is_named_with_what_it_means_and_what_to_do(line: str, means: str, then: str) -> None:
    found = cause(f"{START}\n{AT}LOG:  ready\n{AT}{line}\n")
    assert found is not None
    assert means in found.means
    assert then in found.next


@pytest.mark.parametrize(
    "text",
    [
        f"{AT}PANIC:  No space left on device\n{START}\n{AT}LOG:  ready",  # of an earlier start
        f"{START}\n{AT}{RECEIVER}Connection refused\n{STREAMS}",  # it has connected since
        f'{START}\n{AT}FATAL:  no pg_hba.conf entry for host "h"\n{AT}DETAIL:  "/data/pg_hba.conf" line 2',  # a client
        f"{START}\n{AT}ERROR:  x\n{AT}STATEMENT:  SELECT 'PANIC:  No space left on device'\n\tFATAL:  No space left on device",
        f"{START}\n{AT}FATAL:  could not extend file: No space left on device\n{AT}LOG:  received fast shutdown request",  # asked
        f"{START}\n[53100] LOG:  ready",  # a PID, and no SQLSTATE
        "",
    ],
)
def test_what_says_nothing_about_the_server_is_no_cause(text: str) -> None:
    assert cause(text) is None


@pytest.mark.parametrize(
    "full",
    [
        json.dumps({"error_severity": "PANIK", "state_code": "53100", "message": "kein Platz"}),
        CSV,
        "2026-01-01 10:00:00.000 UTC [7] 00000 LOG:  bereit\n2026-01-01 10:00:02.000 UTC [7] 53100 PANIK:  kein Platz",
    ],
)
def test_an_sqlstate_tells_it_in_any_language(full: str) -> None:
    found = cause(full)
    assert found is not None
    assert "disk of BETA is full" in found.means


def test_a_password_in_the_log_is_not_shown() -> None:
    found = cause(f"{AT}FATAL:  invalid connection string syntax in primary_conninfo: host=h password=secret")
    assert found is not None
    assert "secret" not in str(found)


def test_the_last_words_of_a_log_are_those_that_matter() -> None:
    noise = "2026-01-01 UTC [1] LOG:  database system is shut down\n"
    text = f"""{noise}2026-01-01 UTC [2] FATAL:  old
{noise}2026-01-01 UTC [3] LOG:  syntax error in file "/x/postgresql.conf" line 3, near token "bad"
2026-01-01 UTC [3] FATAL:  configuration file "/x/postgresql.conf" contains errors
2026-01-01 UTC [3] HINT:  mend it
{noise}"""
    assert log.fatal(Log("BETA", "/log", log.parse(text))) == (
        'syntax error in file "/x/postgresql.conf" line 3, near token "bad"; '
        'configuration file "/x/postgresql.conf" contains errors; mend it'
    )
    assert log.fatal(Log("BETA", "/log", log.parse(noise))) == ""
