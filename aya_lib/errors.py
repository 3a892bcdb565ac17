"""The one error tree.

::

    AyaError                       exit 1  what went wrong, and a hint that says what to do
     +-- UsageError                exit 2  (ValueError) the caller asked for something that cannot be
     |    +-- SiteError                    a site file that is missing, unreadable or not valid
     |    +-- ParameterError               an unknown parameter, or a value of the wrong type
     +-- Locked                    exit 3  another runbook is changing this site
     +-- ApprovalMissing           exit 4  a production site, a harmful change, and nobody's name
     +-- Unreachable               exit 1  (ConnectionError) a node or a service could not be asked
     |    +-- DeadlinePassed               (TimeoutError) it was asked, and did not answer in time
     +-- CommandFailed             exit 1  a program ended with a status other than 0
     +-- SqlFailed                 exit 1  the server refused a statement
     +-- SecretMissing             exit 1  (LookupError) no secret under that name anywhere
     +-- MissingProgram            exit 1  (FileNotFoundError) PostgreSQL's programs, or ssh, are not there
     +-- RequirementFailed         exit 1  the gate before a change did not open
     +-- ChangeFailed              exit 1  a change broke off; what was undone is said
     |    +-- NoWayBack                    it was begun and cannot be taken back: nothing is undone
     +-- Interrupted               exit 130 somebody stopped it (a key, a signal); what was undone is said
     +-- VerdictFailed             exit 1  the runbook ended and not everything holds

An error reads as one line: what was wrong and where, then what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import ClassVar


class AyaError(Exception):
    """Base of every error this project raises on purpose.

    ``str(error)`` is one line: the message, and the hint when there is one. In a notebook the line is
    shown instead of a traceback.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split())

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        return f"{self.message}{'' if self.message.endswith(('.', '?')) else '.'} {self.hint}"

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of the traceback: for an operator the line is enough."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(AyaError, ValueError):
    exit_code = 2


class SiteError(UsageError):
    pass


class ParameterError(UsageError):
    pass


class Locked(AyaError):
    exit_code = 3


class ApprovalMissing(AyaError):
    exit_code = 4


class Unreachable(AyaError, ConnectionError):
    """A node or a service could not be asked: which, what was tried, what came back."""

    def __init__(self, node: str, tried: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{node} is unreachable: {tried}: {reason}", hint=hint)
        self.node, self.tried, self.reason = node, tried, " ".join(reason.split())


class DeadlinePassed(Unreachable, TimeoutError):
    """It was asked and did not answer within the deadline (a deaf or frozen peer, a cut link)."""


class CommandFailed(AyaError):
    def __init__(self, node: str, argv: Sequence[str], status: int, stderr: str, *, hint: str = "") -> None:
        words = " ".join(stderr.split()) or "no message"
        super().__init__(f"{node}: {' '.join(argv)} ended with status {status}: {words[-400:]}", hint=hint)
        self.node, self.argv, self.status, self.stderr = node, tuple(argv), status, stderr


class SqlFailed(AyaError):
    def __init__(self, node: str, reason: str, *, sqlstate: str | None = None, hint: str = "") -> None:
        super().__init__(f"{node}: {reason}", hint=hint)
        self.node, self.reason, self.sqlstate = node, " ".join(reason.split()), sqlstate


class SecretMissing(AyaError, LookupError):
    pass


class MissingProgram(AyaError, FileNotFoundError):
    def __str__(self) -> str:
        return AyaError.__str__(self)


class RequirementFailed(AyaError):
    pass


class ChangeFailed(AyaError):
    pass


class NoWayBack(ChangeFailed):
    pass


class Interrupted(AyaError):
    exit_code = 130


class VerdictFailed(AyaError):
    pass


def nearest(word: str, allowed: Sequence[str]) -> str:
    """``; did you mean '...'?`` for a word that is nearly one of those allowed, and else nothing."""
    folded = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(word.lower(), folded, n=1)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""
