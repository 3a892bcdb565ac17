"""Labels in a figure that stand beside what they name, and over neither lines, marks nor each other.

A legend makes the eye travel; a label does not, if there is room for it. Every place close by is tried first, then places all
over the axes with a line that leads to what is named. The cheapest wins: what a label covers costs more than its distance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aya_lib.picture import INK

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SIDES = (-1.0, -0.5, 0.0, 0.5, 1.0)
BESIDE = sorted(((x, y) for x in SIDES for y in SIDES if 1 in (abs(x), abs(y))), key=lambda side: abs(side[0] * side[1]))
AWAY = (7.0, 12.0)  # points from a label to what it names, where there is room
STEP = 9.0  # points between the places that are tried where there is none
LINE = 15.0  # from this gap on a line leads from the label to what it names
ANCHORS = 14  # of a label, at most
CELL = 2.0  # points; how finely it is known where lines run
PAD = 3.0  # points that stay free around a label
TAKEN = 100.0  # how bad another label is, and the edge; a dot of a line under the label is 1
CROSSED = 0.25  # a dot of a line under the leader
FURTHER = 0.012  # each point between the label and what it names
ORDER = 0.02  # each anchor before it that was not taken
MOST = 1.0  # a label that may be left out stands nowhere worse
Spot = tuple[float, float]  # x and y


@dataclass(frozen=True)
class _Label:
    text: str
    anchors: Sequence[Spot]
    needed: bool
    on: bool
    lines: float
    style: dict[str, Any]


@dataclass
class Labels:
    """Collect what labels avoid and the labels themselves, then :meth:`settle` once, when the axes are complete."""

    axes: Axes
    lines: list[Array] = field(default_factory=list)
    held: list[tuple[Spot, float]] = field(default_factory=list)
    labels: list[_Label] = field(default_factory=list)

    def avoid(self, x: Iterable[float], y: Iterable[float]) -> None:
        """A line, or points, in the data's coordinates, that labels keep off where they can."""
        import numpy as np

        self.lines.append(np.column_stack([np.asarray(list(x), float), np.asarray(list(y), float)]))

    def hold(self, spot: Spot, size: float) -> None:
        """A mark, ``size`` points wide, that no label may cover."""
        self.held.append((spot, size))

    def put(
        self, text: str, anchors: Sequence[Spot], *, needed: bool = True, on: bool = False, lines: float = 1.0, **style: Any
    ) -> None:
        """Name what stands at one of the anchors; the first put is placed first.

        Not ``needed``: left out where there is no room. ``on``: not beside an anchor but right on it. ``lines``: how much
        it matters that it covers a line, 0 for not at all (with ``on`` it never does).
        """
        self.labels.append(
            _Label(text, anchors[:ANCHORS], needed, on, 0.0 if on else lines, {"color": INK, "fontsize": 9, **style})
        )

    def settle(self) -> None:
        """Place them; the layout of the figure is final from here on."""
        import numpy as np

        figure: Any = self.axes.figure
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine("none")
        frame = self.axes.bbox
        self.point = figure.dpi / 72
        self.frame = np.array([frame.x0, frame.y0, frame.x1, frame.y1])
        self.cells = np.zeros((int(frame.height / CELL / self.point) + 2, int(frame.width / CELL / self.point) + 2), bool)
        for line in self.lines:
            self._mark(_dense(self.axes.transData.transform(line), CELL * self.point))
        spots = np.array([self.axes.transData.transform(spot) for spot, _ in self.held]).reshape(-1, 2)
        half = np.array([size for _, size in self.held]).reshape(-1, 1) * self.point / 2
        self.boxes = np.hstack([spots - half, spots + half])  # left, low, right, high
        for label in self.labels:
            self._place(label)

    def _place(self, label: _Label) -> None:
        import numpy as np

        style = {"textcoords": "offset points", "va": "bottom", "annotation_clip": False, **label.style}
        text = self.axes.annotate(label.text, (0, 0), xytext=(0, 0), **style)
        extent = text.get_window_extent()
        text.remove()
        cost, anchor, box = self._cheapest(label, np.array([extent.width, extent.height]))
        if cost >= MOST and not label.needed:
            return
        self.boxes = np.vstack([self.boxes, box])
        lead = self._lead(anchor, box)
        self._mark(lead)
        line: dict[str, Any] = {
            "arrowstyle": "-",
            "color": label.style["color"],
            "alpha": 0.7,
            "linewidth": 0.7,
            "shrinkA": 1,
            "shrinkB": 5,
        }
        line["relpos"] = tuple((np.clip(anchor, box[:2], box[2:]) - box[:2]) / (box[2:] - box[:2]))  # the shortest way
        here = tuple(self.axes.transData.inverted().transform(anchor))
        offset = tuple((box[:2] - anchor) / self.point)
        self.axes.annotate(label.text, here, xytext=offset, arrowprops=line if len(lead) else None, **style)

    def _cheapest(self, label: _Label, size: Array) -> tuple[float, Array, Array]:
        """The best place for a label: its cost, its anchor, and its box."""
        import numpy as np

        anchors = self.axes.transData.transform(label.anchors)
        chosen, boxes = self._places(label, anchors, size)
        near = np.clip(anchors[chosen], boxes[:, :2], boxes[:, 2:])
        gap = np.hypot(*(near - anchors[chosen]).T) / self.point
        cost = self._covered(boxes, label.lines) + ORDER * chosen + np.where(gap > AWAY[-1] + 1, 1 + FURTHER * gap, 0)
        best, at = math.inf, 0
        for place in np.argsort(cost, kind="stable"):
            if cost[place] >= best:
                break
            whole = float(cost[place]) + self._crossed(self._lead(anchors[chosen[place]], boxes[place]))
            if whole < best:
                best, at = whole, int(place)
        return best, anchors[chosen[at]], boxes[at]

    def _places(self, label: _Label, anchors: Array, size: Array) -> tuple[NDArray[np.int64], Array]:
        """Places to try, as boxes (n, 4), and the number of the anchor that each belongs to (n,)."""
        import numpy as np

        numbers = np.arange(len(anchors))
        if label.on:
            return numbers, np.hstack([anchors - size / 2, anchors + size / 2])
        sides = np.array([np.array(side) * away * (0.75 if 0 not in side else 1) for away in AWAY for side in BESIDE])
        shift = np.array([(np.array(side) - 1) / 2 * size for _ in AWAY for side in BESIDE]) + sides * self.point
        corners, chosen = (anchors[:, None, :] + shift[None, :, :]).reshape(-1, 2), np.repeat(numbers, len(shift))
        if label.needed:
            x, y = (np.arange(self.frame[i], self.frame[i + 2] - size[i], STEP * self.point) for i in (0, 1))
            far = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
            apart = np.clip(anchors[None], far[:, None], far[:, None] + size) - anchors[None]
            corners = np.vstack([corners, far])
            chosen = np.concatenate([chosen, np.hypot(apart[..., 0], apart[..., 1]).argmin(axis=1)])
        return chosen, np.hstack([corners, corners + size])

    def _covered(self, boxes: Array, lines: float) -> Array:
        """How bad it is what boxes (n, 4) cover: other labels, the edge, and lines."""
        import numpy as np

        pad = PAD * self.point
        low, high = boxes[:, None, :2], boxes[:, None, 2:]
        over = ((low < self.boxes[None, :, 2:] + pad) & (self.boxes[None, :, :2] - pad < high)).all(axis=2).sum(axis=1)
        outside = np.hstack([boxes[:, :2] < self.frame[:2] + pad, boxes[:, 2:] > self.frame[2:] - pad]).any(axis=1)
        bad: Array = TAKEN * (over + outside)
        if lines:
            total = np.pad(self.cells.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
            grown = boxes + np.array([-pad, -pad / 2, pad, pad / 2])
            left, bottom = self._cell(grown[:, :2])
            right, top = (part + 1 for part in self._cell(grown[:, 2:]))
            bad += lines * (total[top, right] - total[bottom, right] - total[top, left] + total[bottom, left])
        return bad

    def _crossed(self, lead: Array) -> float:
        """How bad it is what a leader runs over."""
        if not len(lead):
            return 0.0
        others = self.boxes[len(self.held) :]  # it may begin on a mark
        over = ((lead[:, None] > others[None, :, :2]) & (lead[:, None] < others[None, :, 2:])).all(axis=2)
        x, y = self._cell(lead[4:])  # its first dots lie on what is named
        return TAKEN * float(over.any(axis=0).sum()) + CROSSED * float(self.cells[y, x].sum())

    def _lead(self, anchor: Array, box: Array) -> Array:
        """The dots of the line from what is named to its label; none where the label stands close."""
        import numpy as np

        near = np.clip(anchor, box[:2], box[2:])
        if math.dist(near, anchor) <= LINE * self.point:
            return np.empty((0, 2))
        return _dense(np.array([anchor, near]), CELL * self.point / 2)

    def _cell(self, spots: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Columns and rows of places (n, 2), cut at the edges."""
        import numpy as np

        at = ((spots - self.frame[:2]) / CELL / self.point).astype(np.int64)
        return np.clip(at[:, 0], 0, self.cells.shape[1] - 1), np.clip(at[:, 1], 0, self.cells.shape[0] - 1)

    def _mark(self, dots: Array) -> None:
        import numpy as np

        inside = dots[(np.isfinite(dots) & (dots >= self.frame[:2]) & (dots <= self.frame[2:])).all(axis=1)]
        x, y = self._cell(inside)
        self.cells[y, x] = True


def _dense(line: Array, step: float) -> Array:
    """A line (n, 2) as dots, a ``step`` apart."""
    import numpy as np

    parts = [line[:1]]
    for start, end in itertools.pairwise(line):
        length = math.dist(start, end)
        count = max(1, int(length / step)) if math.isfinite(length) else 1
        parts.append(start + (end - start) * (np.arange(1, count + 1) / count)[:, None])
    return np.concatenate(parts)
