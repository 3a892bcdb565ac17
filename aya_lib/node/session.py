"""What every session of ours sets, because servers, databases, roles, environments and poolers may say something else.

Text that is compared between nodes, deadlines, and what a name means depend on nothing but this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

# What belongs to a site on purpose is left alone: synchronous_commit, and the settings of a search.
ALIKE: Mapping[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "search_path": "public",
    "role": "none",
    "row_security": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}
ENCODING = "UTF8"


def settings(statement_s: float, lock_s: float, *, write: bool) -> dict[str, str]:
    """All of a session's settings; a statement and the wait for a lock end after so many seconds (0: never)."""
    limits = {"statement_timeout": f"{int(statement_s * 1000)}", "lock_timeout": f"{int(lock_s * 1000)}"}
    return {**ALIKE, **limits, "default_transaction_read_only": "off" if write else "on"}


def options(values: Mapping[str, str]) -> str:
    """As libpq's ``options``, which go before what was set for the server, the database or the role."""
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in values.items())


def environment() -> list[str]:
    """The same for PostgreSQL's programs, as words for ``env``: without limits, for they have a deadline on the outside."""
    # libpq sends the first three by itself, and they go before its options.
    own = {"PGTZ": ALIKE["TimeZone"], "PGDATESTYLE": ALIKE["DateStyle"], "PGCLIENTENCODING": ENCODING}
    words = {**own, "PGOPTIONS": options(settings(0, 0, write=False)), "PGHOSTADDR": "", "PGTARGETSESSIONATTRS": "any"}
    return [f"{name}={value}" for name, value in words.items()]


def differing(values: Mapping[str, str], reported: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """What a new session is known not to have: PGTZ of the environment goes before our options, and a pooler may drop them.
    ``reported``: what the server said by itself at login, None for what it does not report."""
    yield from ((name, value) for name, value in values.items() if reported[name] not in (None, value))
