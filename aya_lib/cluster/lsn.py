"""Positions in the write-ahead log."""

from __future__ import annotations


def number(lsn: str) -> int:
    """The byte position of an LSN as PostgreSQL prints it: ``'1/2A'`` -> 4294967338."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn(position: int) -> str:
    """A byte position as PostgreSQL prints it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
