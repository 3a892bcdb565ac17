"""Everything of the laptop beside the primary, as :mod:`aya_lib.air.compare` tells it, and what may be the cause."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.air import fit, triggers
from aya_lib.air.compare import Compared, Difference, compare, moment
from aya_lib.air.differ import RANGE
from aya_lib.air.fit import Columns
from aya_lib.air.initial_copy import Index, vector_indexes
from aya_lib.air.link import ALIKE, laptop, state
from aya_lib.cluster import roles
from aya_lib.node.node import Nodes
from aya_lib.node.unseen import Missing, seen
from aya_lib.show import Shown, Table

DEADLINE_S = 1800.0
SHOWN = 50


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """``silent``: triggers that do not note what is written; ``notes``: columns that do not travel."""

    nodes: Nodes
    laptop: str
    primary: str
    compared: Compared
    indexes_missing: tuple[Index, ...]
    silent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def differences(self) -> tuple[Difference, ...]:
        return self.compared.differences

    def table(self) -> Table:
        found = self.compared
        lines = [(name, f"{there:,}", f"{here:,}") for name, (there, here) in found.counts.items()]
        lines += [
            ("changed there, not pulled yet", str(found.pending), ""),
            ("written here, not pushed yet", "", str(found.queued)),
        ]
        lines += [(str(row), row.there or "no such row", row.here or "no such row") for row in self.differences[:SHOWN]]
        more = len(self.differences) - SHOWN
        notes = (f"and {more} more that differ",) if more > 0 else ()
        parts = f"{found.ranges} ranges compared, {found.ranges_differing} with differing sums"
        title = f"{self.laptop} beside {self.primary}: {parts}"
        return Table(title, ("", self.primary, self.laptop), tuple(lines), (*notes, *self.silent, *self.notes))


def look(nodes: Nodes, rows_each_range: int = RANGE) -> Comparison | Missing:
    """Compare. Nothing is locked or written. :class:`aya_lib.air.fit.Apart` when the laptop is not set up."""
    name = laptop(nodes.site)
    return seen(name, "compare with the primary", lambda: _compare(nodes, name, rows_each_range))


def _compare(nodes: Nodes, name: str, size: int) -> Comparison:
    primary = roles.primary(nodes)
    with nodes[name].session(deadline_s=DEADLINE_S) as here, primary.session(deadline_s=DEADLINE_S) as there:
        for side in (here, there):
            side.execute(ALIKE)
        with moment(here):
            fitting = fit.look(primary.name, name, there, here)
            found = compare(here, there, primary.name, state(here), Columns(fitting), size)
        existing = {index.name for index in vector_indexes(here)}  # that are valid
        missing = [index for index in vector_indexes(there) if index.name not in existing]
        silent = (*triggers.silent(there, "primary", primary.name), *triggers.silent(here, "laptop", name))
    return Comparison(
        nodes, name, primary.name, found, tuple(sorted(missing, key=lambda index: index.name)), silent, fitting.notes
    )
