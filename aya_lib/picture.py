"""Figures for runbooks: no background of their own, colours that read on a light and on a dark page, axes for shares."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MARK, LIMIT = "#808890", "#2f81f7", "#d9534f"
DPI = 110
NEAR_ONE = 1e-3  # a share of 1 stands this far from the end of the scale that spreads shares near 1
SHARES = (1, 0.9, 0.99, 0.999, 0.95, 0.98, 0.5, 0.8, 0.7, 0.995, 0.6, 0.2, 0, 0.4, 0.3)  # ticks, the dearest first
LADDER = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))  # round numbers to a power of ten


@dataclass(frozen=True)
class Picture:
    """A figure that shows itself in any notebook, and says in a line what it shows where there are no pictures."""

    figure: Figure
    caption: str

    def png(self, dpi: int = DPI) -> bytes:
        """The figure as a PNG with a transparent background."""
        out = io.BytesIO()
        self.figure.savefig(out, format="png", dpi=dpi)
        return out.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.caption)


@dataclass(frozen=True)
class Pictures:
    """Several figures, or notes why there is none, shown one below the other."""

    shown: tuple[object, ...]

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for picture in self.shown:
            display(picture)  # type: ignore[no-untyped-call]


def canvas(width: float, height: float) -> Figure:
    """An empty figure, inches wide and high, without a background."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08, wspace=0.03)
    return Figure(figsize=(width, height), facecolor="none", layout=engine)


def headline(figure: Figure, text: str) -> None:
    """What the figure found, above it, at the left."""
    lines = textwrap.wrap(text, int(12.5 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", color=INK, fontsize=11)


def quiet(axes: Axes, grid: str = "y") -> None:
    """The colours of the page, not those of paper. ``grid``: x, y, both, or empty for none."""
    axes.tick_params(colors=INK, labelsize=9, length=0, pad=6)
    axes.title.set_color(INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=9)
    if grid:
        axes.grid(axis=grid, color=INK, alpha=0.2)  # type: ignore[arg-type]
    for side in axes.spines.values():
        side.set_visible(False)


def spread(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of 0 to 1 on a scale that gives 0.9 to 0.99 as much room as 0 to 0.9: the logarithm of what is missing to 1."""
    return np.asarray(-np.log10(np.maximum(1 + NEAR_ONE - np.asarray(shares, np.float64), NEAR_ONE / 10)))


def unspread(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares that :func:`spread` puts there."""
    return np.asarray(1 + NEAR_ONE - 10.0 ** -np.asarray(places, np.float64))


def ticks(low: float, apart: float = 0.07) -> list[float]:
    """Shares to write on such a scale from ``low`` to 1: no two nearer than ``apart`` of its length."""
    room = float(spread(np.array(1.0)) - spread(np.array(low)))
    kept: list[float] = []
    for share in SHARES:
        here = float(spread(np.array(share)))
        if low <= share and all(abs(here - float(spread(np.array(other)))) >= apart * room for other in kept):
            kept.append(float(share))
    return sorted(kept)


def share_axis(axis: Any, low: float, apart: float = 0.07) -> None:
    """An axis of shares from ``low`` to 1, spread near 1."""
    _scale(axis, "function", functions=(spread, unspread))
    getattr(axis.axes, f"set_{axis.axis_name}lim")(low, 1 + NEAR_ONE * 0.35)
    _write(axis, ticks(low, apart), "{:g}")


def log_axis(axis: Any, text: str = "{:,.6g}") -> None:
    """A logarithmic axis with round numbers (1, 2, 5, 10 ...) written out, fewer where they would crowd."""
    _scale(axis, "log")
    _write(axis, round_numbers(*sorted(axis.get_view_interval())), text)


def _scale(axis: Any, name: str, **options: Any) -> None:
    getattr(axis.axes, f"set_{axis.axis_name}scale")(name, **options)


def _write(axis: Any, values: Sequence[float], text: str) -> None:
    axis.set_ticks(values, labels=[text.format(value) for value in values])
    axis.set_ticks([], minor=True)


def round_numbers(low: float, high: float, most: int = 9) -> list[float]:
    """1, 2, 5, 10, 20 ... between two positive numbers; fewer to a power of ten where there would be more than ``most``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers: list[float] = []
    for steps in LADDER:
        numbers = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(numbers) <= most:
            break
    return numbers
