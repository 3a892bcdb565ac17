"""The plot of what more rows would need: searches per second and memory, as fitted and as extrapolated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aya_lib.picture import INK, Picture, canvas, headline, log_axis, quiet
from aya_lib.show import Note
from aya_lib.vectors.bench.result import Comparison
from aya_lib.vectors.bench.scaling import Scaling, Size
from aya_lib.vectors.index import mb
from aya_lib.vectors.report.plots_more import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWN = ("ivfflat", "hnsw")


def scaling(c: Comparison) -> Picture | Note:
    """Searches per second at the target, and the index's size, over the rows; open marks are extrapolated."""
    if not isinstance(c.scaling, Scaling) or not c.scaling.of("ivfflat", "extrapolated") + c.scaling.of("hnsw", "extrapolated"):
        return Note("No plot of growth: not asked for, or too few rows to fit.", "quiet")
    from matplotlib.ticker import FixedLocator

    figure = canvas(9, 3.6)
    speed, memory = figure.subplots(1, 2, width_ratios=(3, 2), subplot_kw={"facecolor": "none"})
    for family in DRAWN:
        _family(speed, c.scaling, family)
        _memory(memory, c.scaling, family)
    rows = sorted(size.rows for size in c.scaling.sizes)
    for axes in (speed, memory):
        axes.set_xlim(rows[0] / 1.4, rows[-1] * 9)
        log_axis(axes.xaxis, _short)
        axes.xaxis.set_major_locator(FixedLocator([10.0**power for power in range(2, 12)]))
        axes.axvspan(c.rows, rows[-1] * 9, color=INK, alpha=0.07, linewidth=0)
        axes.set_xlabel("rows")
        quiet(axes, "both")
    speed.set_ylim(min(size.qps for size in c.scaling.sizes) / 1.6, max(size.qps for size in c.scaling.sizes) * 1.6)
    log_axis(speed.yaxis)
    speed.set_ylabel(f"searches per second at recall {c.target:g}")
    low, high = (bound(size.bytes for size in c.scaling.sizes) for bound in (min, max))
    memory.set_ylim(low / 2, max(high, c.scaling.shared_buffers) * 3)
    log_axis(memory.yaxis, lambda value: mb(value) if value < 2**30 else f"{value / 2**30:,.0f} GB")
    memory.yaxis.set_major_locator(FixedLocator([2.0 ** (20 + 2 * power) for power in range(12)]))
    memory.set_ylabel("memory to stay cached")
    memory.axhline(c.scaling.shared_buffers, color=INK, linewidth=1, linestyle="--")
    memory.annotate(
        "shared_buffers", (rows[0], c.scaling.shared_buffers), (2, 4), textcoords="offset points", color=INK, fontsize=8
    )
    said = _said(c.scaling)
    headline(figure, said)
    return Picture(figure, said)


def _family(axes: Axes, found: Scaling, family: str) -> None:
    style = STYLE[family]  # type: ignore[index]
    ahead = sorted(found.of(family, "extrapolated"), key=lambda size: size.rows)
    if not ahead:
        return
    known = sorted(found.of(family, "fitted") + found.of(family, "held out"), key=lambda size: size.rows)
    axes.plot([s.rows for s in ahead], [s.qps for s in ahead], color=style.colour, linestyle=":", linewidth=2)
    axes.plot([s.rows for s in known], [s.qps for s in known], style.marker, color=style.colour, markersize=7)
    axes.plot(
        [s.rows for s in ahead[1:]], [s.qps for s in ahead[1:]], style.marker, color=style.colour, markersize=7, fillstyle="none"
    )
    held = found.of(family, "held out")[0]
    axes.plot([held.rows], [held.qps], "o", color=style.colour, markersize=13, fillstyle="none", markeredgewidth=1)
    last = ahead[-1]
    axes.annotate(style.word, (last.rows, last.qps), (9, -3), textcoords="offset points", color=style.colour, fontweight="bold")


def _memory(axes: Axes, found: Scaling, family: str) -> None:
    style = STYLE[family]  # type: ignore[index]
    sizes: list[Size] = sorted(found.of(family, "extrapolated"), key=lambda size: size.rows)
    axes.plot(
        [s.rows for s in sizes], [s.bytes for s in sizes], style.marker, color=style.colour, linestyle=":", fillstyle="none"
    )


def _short(value: float) -> str:
    """A number of rows: 3k, 10k, 1M."""
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _said(found: Scaling) -> str:
    parts = []
    for family in DRAWN:
        ahead = sorted(found.of(family, "extrapolated"), key=lambda size: size.rows)
        if ahead:
            error = abs(found.error.get(family, 0))
            word = STYLE[family].word  # type: ignore[index]
            parts.append(f"{word} {ahead[-1].qps:,.0f} (fit off by {error:.0%} where it was checked)")
    return f"Searches per second to expect at 100 times the rows: {', '.join(parts)}"
