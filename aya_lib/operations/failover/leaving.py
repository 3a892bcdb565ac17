"""Who reads the old primary's WAL, and its archiver: an orderly stop waits for them, and they are left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aya_lib.node.hold import CONTENTS, holder
from aya_lib.node.node import Node
from aya_lib.node.sql import rows
from aya_lib.node.unseen import Missing, Unseen, seen


@dataclass(frozen=True)
class Reader:
    """A slot, or a receiver without one. ``synced``: kept up to date from the primary's; ``passing``: of a base backup;
    ``behind``: bytes that it has not confirmed, None while it is not connected."""

    name: str
    kind: str
    synced: bool = False
    passing: bool = False
    pid: int | None = None
    behind: int | None = None
    reply_age_s: float | None = None

    def __str__(self) -> str:
        age = "for ever" if self.reply_age_s is None else f"for {self.reply_age_s:.0f} s"
        return f"{self.name} (PID {self.pid}) has {self.behind or 0:,} bytes to confirm, silent {age}"


@dataclass(frozen=True)
class Archiver:
    """``segments`` that wait, the first for ``oldest_s``; ``running``: an archive_command runs now."""

    segments: int
    oldest_s: float
    running: bool

    def __str__(self) -> str:
        return f"{self.segments} segments wait, the first for {self.oldest_s:.0f} s" if self.segments else "idle"


@dataclass(frozen=True)
class Leaving:
    """``ours``: the slot and the name of the pair's own stream; ``goes_on``: the slots that the node to be promoted has too;
    ``at_work``: who loads or measures there, empty when nobody does."""

    node: str
    ours: frozenset[str]
    readers: tuple[Reader, ...]
    goes_on: frozenset[str] = frozenset()
    archiver: Archiver | None = None
    at_work: str = ""

    @property
    def others(self) -> Iterator[Reader]:
        return (one for one in self.readers if one.name not in self.ours)


def look(old: Node, new: Node, *, serves: bool, reached: bool, called: str) -> Leaving | Missing:
    """Ask the old primary; when it is down, its files say which slots it had."""

    def ask() -> Leaving:
        at_work = ""
        if serves:
            with old.session(database="postgres") as session:
                readers = rows(session, __package__, "readers", Reader)
                archiver = rows(session, __package__, "archiver", Archiver)[0]
                at_work = holder(session, CONTENTS)
        else:
            listed = old.shell.run(["ls", "-1", "--", str(old.data_directory / "pg_replslot")], account=old.account).checked()
            readers, archiver = [Reader(name, "slot") for name in listed.stdout.split()], None
        with new.session(database="postgres") as session:
            there = rows(session, __package__, "readers", Reader)
        goes_on = frozenset(one.name for one in there if one.kind != "logical slot" or one.synced)
        return Leaving(old.name, frozenset({old.site.replication.slot, called}), tuple(readers), goes_on, archiver, at_work)

    what = "who reads its WAL"
    away = Unseen(old.name, what, "neither its server nor a shell on it answers")
    return seen(old.name, what, ask) if reached or serves else away
