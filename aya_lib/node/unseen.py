"""What could not be seen, and what was seen not to be there. Both are values; neither is a default."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from aya_lib.errors import CommandFailed, MissingProgram, SqlFailed, Unreachable
from aya_lib.node.host import Host
from aya_lib.node.sql import NotAccepting, NotListening

N = TypeVar("N", bound=Host)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Unseen:
    """It was looked at and could not be seen: on which node, what was tried, what came back. Makes a check unknown."""

    node: str
    tried: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node}: {self.tried}: {self.reason}"


@dataclass(frozen=True)
class Down:
    """It was looked at and is known not to run. Makes a check failed."""

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node} is down: {self.reason}"


@dataclass(frozen=True)
class Otherwise(Down):
    """It runs, and is not what was looked for: ``reason`` goes on from its name. Makes a check failed."""

    def __str__(self) -> str:
        return f"{self.node} {self.reason}"


@dataclass(frozen=True)
class Starting:
    """The server runs and takes no sessions: starting up, in crash recovery, or shutting down. Makes a check failed."""

    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node} takes no sessions: {self.reason}"


@dataclass(frozen=True)
class Planned:
    """A dry run did not look, because looking would have written. Makes a check planned."""

    what: str

    def __str__(self) -> str:
        return self.what


Missing = Unseen | Down | Starting | Planned


def seen(node: str, tried: str, look: Callable[[], T]) -> T | Unseen | Down | Starting:
    """What ``look`` gives; :class:`Down` when nobody listens there; :class:`Unseen` when it could not be asked.

    The node that is named is the one that the error names, where ``look`` asks more than one."""
    try:
        return look()
    except NotListening as error:
        return Down(error.node, error.reason)
    except NotAccepting as error:
        return Starting(error.node, error.reason)
    except Unreachable as error:
        return Unseen(error.node, tried, error.reason + (f". {error.hint}" if error.hint else ""))
    except (CommandFailed, SqlFailed, MissingProgram) as error:
        return Unseen(node, tried, str(error))


def looking(tried: str) -> Callable[[Callable[Concatenate[N, P], T]], Callable[Concatenate[N, P], T | Unseen | Down | Starting]]:
    """Mark a function that looks at the node which it is given first: it gives what :func:`seen` gives. ``tried``: for people,
    with the function's arguments by their names in braces."""

    def mark(function: Callable[Concatenate[N, P], T]) -> Callable[Concatenate[N, P], T | Unseen | Down | Starting]:
        signature = inspect.signature(function)

        @wraps(function)
        def look(node: N, /, *args: P.args, **kwargs: P.kwargs) -> T | Unseen | Down | Starting:
            named = signature.bind(node, *args, **kwargs).arguments
            return seen(node.name, tried.format(**named), lambda: function(node, *args, **kwargs))

        return look

    return mark
