"""How long each marked row took, as a picture."""

from __future__ import annotations

from aya_lib.cluster.canary import Visibility
from aya_lib.node.unseen import Missing
from aya_lib.picture import INK, LIMIT, MARK, Picture, canvas, quiet
from aya_lib.show import Note


def plot(rows: Visibility | Missing) -> Picture | Note:
    """Milliseconds until each marked row was visible, in the order they were written, with p50 and p95."""
    if not isinstance(rows, Visibility) or not rows.seen:
        return Note("No plot: no row arrived." if isinstance(rows, Visibility) else "No plot: not measured.", "quiet")
    from matplotlib.ticker import MaxNLocator

    figure = canvas(7.5, 2.6)
    axes = figure.add_subplot(facecolor="none")
    arrived = {number: took for number, took in enumerate(rows.milliseconds, 1) if took is not None}
    axes.vlines(list(arrived), 0, list(arrived.values()), color=MARK, alpha=0.35, linewidth=2)
    axes.plot(list(arrived), list(arrived.values()), "o", color=MARK, markersize=5)
    for percent, style in ((50, "-"), (95, "--")):
        level = rows.percentile(percent) or 0
        axes.axhline(level, color=INK, linestyle=style, linewidth=1)
        axes.text(1.01, level, f"p{percent} {level:.1f} ms", transform=axes.get_yaxis_transform(), color=INK, fontsize=9)
    for number in set(range(1, len(rows.milliseconds) + 1)) - set(arrived):
        axes.axvline(number, color=LIMIT, linewidth=2)
    axes.set(xlabel="marked row", ylabel="ms until visible", ylim=(0, None))
    axes.set_title(f"Commit on {rows.primary} to visible on {rows.standby}", color=INK, fontsize=11, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    quiet(axes)
    return Picture(figure, f"Plot: milliseconds until each of {len(arrived)} marked rows was visible on {rows.standby}")
