"""The steps from the live index to the one that is asked for, with the way back beside each. Pure: nothing asks a server.

Two ways. Of the same family: new options and REINDEX INDEX CONCURRENTLY, held until every searcher has read settings that
are good for both indexes. Of another family: CREATE INDEX CONCURRENTLY, names and settings swapped in one transaction, and
the old index dropped when the new one is proven. What is under way is noted in the stored settings, because after ALTER
INDEX the catalog no longer tells what was built; a plan made after an interruption goes on from the note, and what an earlier
run did before it broke off is a step with nothing left to do, which can be undone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from aya_lib.errors import UsageError
from aya_lib.node.node import Node
from aya_lib.plan.actions import Sql
from aya_lib.plan.change import Action, Change, Plan, change
from aya_lib.schema import knowledge
from aya_lib.vectors.catalog import Live, LiveIndex, RoleSetting, canonical, key_of
from aya_lib.vectors.index import Index
from aya_lib.vectors.rebuild.actions import (
    AlreadyDone,
    Alter,
    Create,
    Drop,
    Made,
    Proof,
    Prove,
    Reindex,
    Rename,
    Settle,
)
from aya_lib.vectors.rebuild.hold import BUILD_S, Place, Progress, Resources
from aya_lib.vectors.rebuild.judge import MEMORY_SHARE, need_bytes, unfit
from aya_lib.vectors.rebuild.settings import KEYS, Note, Settings, noted


def plan(
    node: Node,
    live: Live,
    to: Index,
    value: int,
    *,
    proof: Proof | None = None,
    again: bool = False,
    deadline_s: float = BUILD_S,
    progress: Progress | None = None,
) -> Plan:
    """The changes that make ``to`` the live index, searched with ``value`` (of its knob: probes or ef_search).

    Empty when that holds already; ``again``: build it anew all the same, because it is stale. Without ``proof`` nothing is
    measured. A failure brings back the old index with its old settings. Raises :class:`UsageError` for what cannot be.
    """
    why = live.problem or unfit(live, to, value)
    if why:
        raise UsageError(f"{node.name}: {why}")
    steps = _Steps(node, live, canonical(to), value, proof, again, deadline_s, progress)
    return Plan(f"Rebuild {live.name} as {to}, searched with {to.knob} = {value}", tuple(steps.all()))


def memory(live: Live, index: Index) -> int:
    """maintenance_work_mem of a build, in bytes: what it needs, but not above half of what is available; the server's own
    at least."""
    most = int(live.memory_bytes * MEMORY_SHARE) if isinstance(live.memory_bytes, int) else 0
    return max(live.maintenance_work_mem, min(need_bytes(live, index), most))


@dataclass(frozen=True)
class _Steps:
    """From ``live`` to the index ``to``, searched with ``value``."""

    node: Node
    live: Live
    to: Index
    value: int
    proof: Proof | None
    again: bool
    deadline_s: float
    progress: Progress | None

    def all(self) -> Iterator[Change]:
        for index in self.live.leftovers:
            yield self._step(f"Remove {index.name}, left invalid by a build that broke off", Drop(self.place, index.name))
        yield from self._abandoned()
        if not self.live.settings_table:
            action = Sql(knowledge.text(self.node.site, "aya_settings"), database=None)
            yield self._step("Add the table of settings that go with the data", action)
        yield from self._in_place() if self.was and self.was.family == self.to.family else self._staged()

    # What is there

    @cached_property
    def place(self) -> Place:
        return Place(self.live.schema, self.live.as_table())

    @cached_property
    def any_note(self) -> Note | None:
        return noted(self.live)

    @cached_property
    def note(self) -> Note | None:
        """Of this very rebuild, begun by an earlier run."""
        note = self.any_note
        return note if note and note.to == self.to and (note.was is None or self.live.current) else None

    @cached_property
    def true(self) -> Index | None:
        """What the live index really is: after ALTER INDEX, until it is built anew, its options are not the declared ones."""
        current, note = self.live.current, self.any_note
        if note and note.was and current and (current.name, current.filenode) == (note.name, note.filenode):
            return note.was
        return current.index() if current else None

    @cached_property
    def was(self) -> Index | None:
        """The index that this rebuild replaces, or has replaced."""
        return self.note.was if self.note else self.true

    @cached_property
    def replaced(self) -> bool:
        """Whether the rebuild that was noted has come so far that the live index is the new one."""
        current = self.live.current
        return bool(self.note and current and current.index() == self.to and current.filenode != self.note.filenode)

    # Settings of those who search

    @cached_property
    def before(self) -> Settings:
        """As they were, without a note."""
        note, stored = self.any_note, self.live.stored
        if note and (self.note or self.true == note.was):
            values, roles = note.before, note.roles
        else:
            values, roles = {key: stored[key] for key in KEYS if key in stored}, self.live.roles
        return Settings(values, (*(key for key in KEYS if key not in values), "rebuilding"), roles)

    def before_value(self, index: Index) -> int:
        """What was stored for the index's knob, or what searchers took where nothing was."""
        return int(self.before.put.get(key_of(index)) or replace(self.live, stored={}).chosen(index))

    def roles_before(self, index: Index) -> tuple[RoleSetting, ...]:
        """Settings of roles and databases for its knob."""
        return tuple(setting for setting in self.before.roles if setting.name == index.knob)

    def roles(self, least: int, most: int) -> tuple[RoleSetting, ...]:
        """Those for the new index's knob, no smaller and no larger."""
        return tuple(replace(role, value=max(least, min(most, role.value))) for role in self.roles_before(self.to))

    @cached_property
    def final(self) -> Settings:
        return Settings({key_of(self.to): self.value}, roles=self.roles(self.value, self.value))

    @property
    def final_holds(self) -> bool:
        stored = self.live.stored
        kept = all(stored.get(key) == value for key, value in self.final.put.items())
        return kept and set(self.final.roles) <= set(self.live.roles)

    # Steps

    def _in_place(self) -> Iterator[Change]:
        """Of the same family: other options, the same once more, or only another setting."""
        current, was = self.live.current, self.was
        assert current is not None
        assert was is not None
        if self.note or self.again or self.true != self.to:
            yield from self._built_anew(current, was)
            yield from self._proof(self._made(current.name))
            yield self._finish(current.name)
            return
        if current.index() != self.to:
            yield self._step(f"Declare again what {current.name} is", Alter(self.place, current.name, self.to))
        if not self.final_holds:
            yield self._step(self._search_title, Settle(self.final), Settle(self.before))
            yield from self._proof(None)
        if self.any_note:
            yield self._step("Take away the note of a rebuild that broke off", Settle(Settings(drop=("rebuilding",))))

    def _built_anew(self, current: LiveIndex, was: Index) -> Iterator[Change]:
        old_value, name = self.before_value(was), current.name
        interim = Settings({key_of(was): max(old_value, self.value)}, roles=self.roles(self.value, sys.maxsize))
        raises = self.value > old_value or any(role.value < self.value for role in self.roles_before(was))
        yield self._begun({key_of(was): old_value})
        if current.index() != self.to or was != self.to:
            alter = self._done(current.index() == self.to, Alter(self.place, name, self.to))
            yield self._step(f"Give {name} the options of {self.to}", alter, Alter(self.place, name, was))
        build = Reindex(self.place, name, self._resources(self.to), interim if raises else None)
        back = Reindex(self.place, name, self._resources(was), options=was)
        title = f"Build {name} anew as {self.to}, beside the old one, and swap them"
        yield self._step(title, self._done(self.replaced, build), back, interrupts=not self.replaced)
        if self.final != interim:
            settle = self._done(self.replaced and self.final_holds, Settle(self.final))
            yield self._step(self._search_title, settle, Settle(interim, read=True))

    def _staged(self) -> Iterator[Change]:
        """Of another family, or where there was none."""
        live, was, current = self.live, self.was, self.live.current
        new, name = live.new_name, live.name
        if self.replaced and was and not live.find(live.kept_name):  # the old index is gone: there is no way back any more
            yield from self._proof(self._made(name))
            yield self._finish(name)
            return
        old_name = self.note.name if self.note else current.name if current else ""
        if current and was and not self.note and current.index() != was:
            yield self._step(f"Declare again what {current.name} is", Alter(self.place, current.name, was))
        other_knob = was is None or was.knob != self.to.knob
        pins = {key_of(was): self.before_value(was)} if was else {}
        yield self._begun(pins, new_knob=other_knob)

        quiet = bool(was and was.kind != self.to.kind)
        staged = live.find(new)
        created = bool(self.note and staged and staged.valid and staged.index() == self.to) or self.replaced
        create = self._done(created, Create(self.place, new, self.to, self._resources(self.to)))
        title = f"Build {self.to} beside it, as {new}" if was else f"Build {self.to}, as {new}"
        yield self._step(title, create, Drop(self.place, new, quiet), interrupts=not created)

        pairs = (*([(old_name, live.kept_name)] if was else []), (new, name))
        back = tuple((new_, old) for old, new_ in reversed(pairs))
        former = Settings() if other_knob else Settings(pins, roles=self.roles_before(self.to))
        swap = self._done(self.replaced, Rename(self.place, pairs, self.final))
        kept = f", searched with {self.to.knob} = {self.value}; keep the old one as {live.kept_name}" if was else ""
        yield self._step(f"Make it {name}{kept}", swap, Rename(self.place, back, former))

        yield from self._proof(self._made(name))
        if was:
            yield self._step(f"Drop the old index, {live.kept_name}", Drop(self.place, live.kept_name, quiet))
        yield self._finish(name)

    def _begun(self, pins: dict[str, int], new_knob: bool = False) -> Change:
        """The note of what is under way, with what searchers took so far written out, so that it cannot change by itself."""
        current = self.live.current
        named = (current.name, current.filenode) if current else ("", 0)
        note = Note(self.to, self.was, *named, self.before.put, self.before.roles)
        put = pins | ({key_of(self.to): self.value} if new_knob else {}) | {"rebuilding": note.json()}
        settle = Settle(Settings(put, roles=self.final.roles if new_knob else ()), read=new_knob)
        title = "Note what is rebuilt, and how it was searched"
        return self._step(title, self._done(bool(self.note), settle), Settle(self.before))

    def _abandoned(self) -> Iterator[Change]:
        """What a rebuild to something else left beside the live index."""
        note, current = self.any_note, self.live.current
        if not note or self.note or not note.staged:
            return
        for index in (self.live.find(self.live.new_name), self.live.find(self.live.kept_name)):
            if index and index.valid:
                quiet = current is not None and index.kind != current.kind
                title = f"Remove {index.name}, left by a rebuild to {note.to} that broke off"
                yield self._step(title, Drop(self.place, index.name, quiet))

    def _proof(self, made: Made | None) -> Iterator[Change]:
        if self.proof:
            built = {key: value for key, value in self.before.put.items() if key == "built"}
            undo = Settle(Settings(built, () if built else ("built",)))
            title = f"Prove that its recall is at least {self.proof.minimum:g}"
            yield self._step(title, Prove(self.proof, self.to, made), undo)

    def _finish(self, name: str) -> Change:
        made = None if self.proof else self._made(name)
        return self._step("Take away the note", Settle(Settings(drop=("rebuilding",)), made=made))

    @property
    def _search_title(self) -> str:
        return f"Search with {self.to.knob} = {self.value}"

    def _made(self, name: str) -> Made:
        return Made(self.place, name, self.to, self.value, self.live.rows)

    def _done(self, done: bool, action: Action) -> Action:
        return AlreadyDone(action.command(self.node)) if done else action

    def _step(self, title: str, action: Action, undo: Action | None = None, interrupts: bool = False) -> Change:
        return change(self.node, title, action, undo=undo, interrupts=interrupts)

    def _resources(self, index: Index) -> Resources:
        return Resources(memory(self.live, index), self.live.workers, self.deadline_s, self.progress)
