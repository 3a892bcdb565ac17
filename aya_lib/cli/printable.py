"""What a terminal or a pipe cannot take: characters that its encoding lacks, and output that nobody reads any more."""

from __future__ import annotations

import codecs
import io
import os
import sys

PLAIN = {"✓": "+", "✗": "x", "·": "."}


def install() -> None:
    """From now on a character that stdout or stderr cannot write comes as a plain one, and is no error."""
    codecs.register_error("aya", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="aya")


def discard() -> None:
    """Nobody reads: what is left to be written goes nowhere, also when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


def only_ascii() -> bool:
    """Whether stdout's encoding is another than UTF-8: JSON has a way to write every character in ASCII."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end
