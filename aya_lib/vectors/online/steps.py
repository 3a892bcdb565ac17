"""The steps from the live index to the one that is wished, with the way back beside each. Pure: nothing asks a server.

What an earlier run did before it broke off is a step that stands: nothing is left to do, and it can be undone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from aya_lib.node.node import Node
from aya_lib.plan.actions import Sql
from aya_lib.plan.change import Action, Change, change
from aya_lib.schema import knowledge
from aya_lib.vectors.index import Index
from aya_lib.vectors.online.gate import Progress, Room
from aya_lib.vectors.online.live import Live, LiveIndex
from aya_lib.vectors.online.stored import KEYS, Note, RoleSetting, Settings
from aya_lib.vectors.online.swap import Alter, Create, Drop, Finish, Proof, Prove, Reindex, Rename, Settle, Standing
from aya_lib.vectors.online.touch import Place

MEMORY_SHARE = 0.5  # of what is available, at most, for a build
SPARE = 1.1  # of the memory that a build is reckoned to need


def memory(live: Live, index: Index) -> int:
    """maintenance_work_mem of a build, in bytes: what it needs, but not above half of what is available; the server's own
    at least."""
    need = int(index.build_bytes(live.as_table(), live.rows) * SPARE)
    most = int(live.memory_bytes * MEMORY_SHARE) if isinstance(live.memory_bytes, int) else 0
    return max(live.maintenance_work_mem, min(need, most))


@dataclass(frozen=True)
class Rebuild:
    """From ``live`` to ``wish``, searched with ``value``."""

    node: Node
    live: Live
    wish: Index
    value: int
    proof: Proof | None
    again: bool
    deadline_s: float
    progress: Progress | None

    def changes(self) -> Iterator[Change]:
        for one in self.live.leftovers:
            yield self._step(f"Remove {one.name}, left invalid by a build that broke off", Drop(self.place, one.name))
        yield from self._abandoned()
        if not self.live.settings_table:
            action = Sql(knowledge.text(self.node.site, "aya_settings"), database=None)
            yield self._step("Add the table of settings that go with the data", action)
        if self.was and self.was.family == self.wish.family:
            yield from self._in_place()
        else:
            yield from self._beside()

    # What is there

    @cached_property
    def place(self) -> Place:
        return Place(self.live.schema, self.live.as_table())

    @property
    def new_name(self) -> str:
        return f"{self.live.name}_new"

    @property
    def kept_name(self) -> str:
        return f"{self.live.name}_old"

    @cached_property
    def note(self) -> Note | None:
        """Of this very rebuild, begun by an earlier run."""
        noted = self.live.note
        return noted if noted and noted.wish == self.wish and (noted.was is None or self.live.current) else None

    @cached_property
    def true(self) -> Index | None:
        """What the live index really is: after ALTER INDEX, until it is built anew, its options are not the declared ones."""
        current, noted = self.live.current, self.live.note
        if noted and noted.was and current and (current.name, current.filenode) == (noted.name, noted.filenode):
            return noted.was
        return current.index() if current else None

    @cached_property
    def was(self) -> Index | None:
        """The index that this rebuild replaces, or has replaced."""
        return self.note.was if self.note else self.true

    @cached_property
    def replaced(self) -> bool:
        """Whether the rebuild that was noted has come so far that the live index is the new one."""
        current = self.live.current
        return bool(self.note and current and current.index() == self.wish and current.filenode != self.note.filenode)

    # Settings of those who search

    @cached_property
    def before(self) -> Settings:
        """As they were, without a note."""
        noted, stored = self.live.note, self.live.stored or {}
        if noted and (self.note or self.true == noted.was):
            values, roles = noted.before, noted.roles
        else:
            values, roles = {key: stored[key] for key in KEYS if key in stored}, self.live.roles
        return Settings(values, (*(key for key in KEYS if key not in values), "rebuilding"), roles)

    def held(self, index: Index) -> int:
        """What is stored for the index's knob, or what searchers take where nothing is."""
        return int(self.before.put.get(key_of(index)) or replace(self.live, stored=None).chosen(index))

    def roles(self, least: int, most: int) -> tuple[RoleSetting, ...]:
        """The settings of roles and databases for the wish's knob, no smaller and no larger."""
        return tuple(replace(one, value=max(least, min(most, one.value))) for one in roles_of(self.before, self.wish))

    @cached_property
    def final(self) -> Settings:
        return Settings({key_of(self.wish): self.value}, roles=self.roles(self.value, self.value))

    def holds(self, settings: Settings) -> bool:
        """Whether they are stored."""
        stored = self.live.stored or {}
        return all(stored.get(key) == value for key, value in settings.put.items()) and set(settings.roles) <= set(
            self.live.roles
        )

    # Steps

    def _in_place(self) -> Iterator[Change]:
        """Of the same family: other options, the same once more, or only another setting."""
        current, was = self.live.current, self.was
        assert current is not None
        assert was is not None
        if self.note or self.again or self.true != self.wish:
            yield from self._built_anew(current, was)
            yield from self._proof(self.live.rows)
            yield self._finish()
            return
        if current.index() != self.wish:
            yield self._step(f"Declare again what {current.name} is", Alter(self.place, current.name, self.wish))
        if not self.holds(self.final):
            yield self._step(f"Search with {self.wish.knob} = {self.value}", Settle(self.final), Settle(self.before))
            yield from self._proof(None)
        if self.live.note:
            yield self._step("Take away the note of a rebuild that broke off", Finish())

    def _built_anew(self, current: LiveIndex, was: Index) -> Iterator[Change]:
        held, name = self.held(was), current.name
        interim = Settings({key_of(was): max(held, self.value)}, roles=self.roles(self.value, sys.maxsize))
        raises = self.value > held or any(one.value < self.value for one in roles_of(self.before, was))
        yield self._begun({key_of(was): held})
        if current.index() != self.wish or was != self.wish:
            alter = self._done(current.index() == self.wish, Alter(self.place, name, self.wish))
            yield self._step(f"Give {name} the options of {self.wish}", alter, Alter(self.place, name, was))
        build = Reindex(self.place, name, self._room(self.wish), interim if raises else None, progress=self.progress)
        back = Reindex(self.place, name, self._room(was), options=was, progress=self.progress)
        title = f"Build {name} anew as {self.wish}, beside the old one, and swap them"
        yield self._step(title, self._done(self.replaced, build), back, interrupts=not self.replaced)
        if self.final != interim:
            settle = self._done(self.replaced and self.holds(self.final), Settle(self.final))
            yield self._step(f"Search with {self.wish.knob} = {self.value}", settle, Settle(interim, read=True))

    def _beside(self) -> Iterator[Change]:
        """Of another family, or where there was none."""
        was, new, name = self.was, self.live.find(self.new_name), self.live.name
        kept = self.live.find(self.kept_name)
        if self.replaced and was and not kept:  # the old index is gone: there is no way back any more
            yield from self._proof(self.live.rows)
            yield self._finish()
            return
        current = self.live.current
        old_name = self.note.name if self.note else current.name if current else ""
        if current and was and not self.note and current.index() != was:
            yield self._step(f"Declare again what {current.name} is", Alter(self.place, current.name, was))
        other_knob = was is None or was.knob != self.wish.knob
        pins = {key_of(was): self.held(was)} if was else {}
        yield self._begun(pins, new_knob=other_knob)

        quiet = bool(was and was.kind != self.wish.kind)
        created = bool(self.note and new and new.valid and new.index() == self.wish) or self.replaced
        create = self._done(created, Create(self.place, self.new_name, self.wish, self._room(self.wish), self.progress))
        title = f"Build {self.wish} beside it, as {self.new_name}" if was else f"Build {self.wish}, as {self.new_name}"
        yield self._step(title, create, Drop(self.place, self.new_name, quiet), interrupts=not created)

        pairs = (*([(old_name, self.kept_name)] if was else []), (self.new_name, name))
        undone = tuple((new, old) for old, new in reversed(pairs))
        former = Settings() if other_knob else Settings(pins, roles=roles_of(self.before, self.wish))
        swap = self._done(self.replaced, Rename(self.place, pairs, self.final))
        title = f"Make it {name}" + (
            f", searched with {self.wish.knob} = {self.value}; keep the old one as {self.kept_name}" if was else ""
        )
        yield self._step(title, swap, Rename(self.place, undone, former))

        yield from self._proof(self.live.rows)
        if was:
            yield self._step(f"Drop the old index, {self.kept_name}", Drop(self.place, self.kept_name, quiet))
        yield self._finish()

    def _begun(self, pins: dict[str, int], new_knob: bool = False) -> Change:
        """The note of what is under way, with what searchers took so far written out, so that it cannot change by itself."""
        current = self.live.current
        named = (current.name, current.filenode) if current else ("", 0)
        note = Note(self.wish, self.was, *named, self.before.put, self.before.roles)
        put = pins | ({key_of(self.wish): self.value} if new_knob else {}) | {"rebuilding": note.json()}
        settle = Settle(Settings(put, roles=self.final.roles if new_knob else ()), read=new_knob)
        return self._step(
            "Note what is rebuilt, and how it was searched", self._done(bool(self.note), settle), Settle(self.before)
        )

    def _abandoned(self) -> Iterator[Change]:
        """What a rebuild for another wish left beside the live index."""
        noted, current = self.live.note, self.live.current
        if not noted or self.note or not noted.beside:
            return
        for one in (self.live.find(self.new_name), self.live.find(self.kept_name)):
            if one and one.valid:
                quiet = current is not None and one.kind != current.kind
                title = f"Remove {one.name}, left by a rebuild to {noted.wish} that broke off"
                yield self._step(title, Drop(self.place, one.name, quiet))

    def _proof(self, rows: int | None) -> Iterator[Change]:
        if self.proof:
            action = Prove(self.proof, self.wish, rows)
            built = {key: value for key, value in self.before.put.items() if key == "built"}
            undo = Settle(Settings(built, () if built else ("built",)))
            yield self._step(f"Prove that its recall is at least {self.proof.minimum:g}", action, undo)

    def _finish(self) -> Change:
        return self._step("Take away the note", Finish() if self.proof else Finish(self.wish, self.live.rows))

    def _done(self, done: bool, action: Action) -> Action:
        return Standing(action.command(self.node)) if done else action

    def _step(self, title: str, action: Action, undo: Action | None = None, interrupts: bool = False) -> Change:
        return change(self.node, title, action, undo=undo, interrupts=interrupts)

    def _room(self, index: Index) -> Room:
        return Room(memory(self.live, index), self.live.workers, self.deadline_s)


def key_of(index: Index) -> str:
    """The key under which the value of its knob is stored."""
    return index.knob.split(".")[1]


def roles_of(settings: Settings, index: Index) -> tuple[RoleSetting, ...]:
    """Those for its knob."""
    return tuple(one for one in settings.roles if one.name == index.knob)
