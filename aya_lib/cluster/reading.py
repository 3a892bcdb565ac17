"""What pg_waldump says when it can read no further."""

from __future__ import annotations

import re

READ_S = 3600  # pg_waldump reads some hundred MB a second; a deadline is only for a disk that hangs


def last_position(stderr: str) -> str | None:
    """Where pg_waldump could read no further: the last position that its message names."""
    match = re.findall(r"(?:at|LSN|after) ([0-9A-F]+/[0-9A-F]+)", stderr)
    return match[-1] if match else None


def missing_segment(stderr: str) -> str | None:
    """The segment that pg_waldump would have gone on with, and that is not there."""
    match = re.search(r'could not (?:find|open) file "(?:[^"]*/)?([0-9A-F]{24})"', stderr)
    return match[1] if match else None
