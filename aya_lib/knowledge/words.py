"""A question's words: what is looked for, what must stand there as it is, what is left out, and how rare each is.

How common a word is, PostgreSQL's own ANALYZE keeps beside the running system (``most_common_elems``); words that are not among
them are counted by the index. Nothing is written for it, so that it also holds on a standby, after COPY and on a laptop's copy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from aya_lib.errors import AyaError, UsageError
from aya_lib.node.sql import Connection, rows, statement, value

LONGEST = 20_000  # characters of a question: some pages of a log. The encoder reads the first 256 to 512 tokens
WORDS = 64  # lexemes that are looked for, the rarest of a longer question
COUNTED = 1000  # pages of a table that is counted and not estimated: a millisecond or two
CANDIDATES = 1000  # chunks of each kind that are ranked; ranking all of them found no more (benchmarks/search.py)
WEIGHTS = [0.4, 0.4, 0.7, 1.0]  # of the text, (nothing), the headings, the title, in PostgreSQL's order D, C, B, A

PHRASE = re.compile(r'(?<![^\s(\-])["“„«](?=\S)([^"“”„«»]*[^"“”„«»\s])["”“»](?!\w)')
OPTIONS = re.compile(r"(?<!\S)-(?:-\w|\w(?!\w))")  # -D, --data-checksums: a command was pasted
WITHOUT = re.compile(r"(?<!\S)-([^\W\d_]{3,})(?=\s*$)")


@dataclass(frozen=True)
class Asked:
    """``text``: all that is looked for. ``phrases`` must stand there as they are, ``without`` must not."""

    text: str
    phrases: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lexeme:
    """``part``: of a word as it was typed, and not a compound put together. ``chunks``: that have it; ``idf``: how rare it is
    (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, with 1 added so that it stays above zero)."""

    query: str
    part: bool
    chunks: float
    idf: float
    of: int  # lexemes that the question has in all


def clean(query: str) -> str:
    """Without control characters and halves of surrogate pairs, which no text has. :class:`UsageError`: empty, or too long."""
    query = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", " ", query).strip()
    if not query:
        raise UsageError("the question is empty")
    if len(query) > LONGEST:
        raise UsageError(f"the question has {len(query)} characters, at most {LONGEST} are read: ask with the words that matter")
    return query


def literal(text: str) -> str:
    """A document's own sentence as a question: no quotes of it are an order."""
    return re.sub(r'["“”„«»]', " ", text)


def parse(query: str) -> Asked:
    """Phrases stand in quotes that are closed. ``-word`` at the end leaves a word out, but for the options of a pasted command;
    all else is looked for as it is."""
    phrases: list[str] = []
    without: list[str] = []
    rest = query
    for found in PHRASE.finditer(query):
        negated = query[: found.start()].endswith("-")
        (without if negated else phrases).append(found[1])
        rest = rest.replace(f"-{found[0]}" if negated else found[0], " ", 1)
    while not OPTIONS.search(rest) and (last := WITHOUT.search(rest)):
        without.append(last[1])
        rest = rest[: last.start()]
    return Asked(" ".join([rest, *phrases]), tuple(phrases), tuple(without))


def lexemes(connection: Connection, asked: Asked) -> list[Lexeme]:
    """Those that some chunk has, the rarest first, at most ``WORDS``. :class:`AyaError`: the schema is of before."""
    try:
        found = rows(connection, __package__, "lexemes", Lexeme, text=asked.text, words=WORDS, most=CANDIDATES, counted=COUNTED)
    except psycopg.errors.UndefinedFunction:
        raise AyaError("the schema does not have the words of this version", hint="Run: aya run ingest") from None
    return [one for one in found if one.chunks > 0]


def values(connection: Connection, asked: Asked, found: Sequence[Lexeme]) -> dict[str, Any]:
    """What the statement that searches by words takes."""
    given = {"phrases": list(asked.phrases), "without": list(asked.without)}
    rarest: list[str] = []
    together = 0.0
    for one in found:
        together += one.chunks
        if not rarest or together <= CANDIDATES:
            rarest.append(one.query)
    required = value(connection, statement(__package__, "required"), given) if asked.phrases or asked.without else None
    return {
        "every": " & ".join(one.query for one in found if one.part),
        "rarest": " | ".join(rarest),
        "any": " | ".join(one.query for one in found),
        "queries": [one.query for one in found],
        "idfs": [one.idf for one in found],
        "weights": WEIGHTS,
        "ranked": CANDIDATES,
        "required": required,
    }
