"""Small plots for runbooks: no background of their own, colours that read on a light and on a dark page."""

from __future__ import annotations

from aya_lib.cluster.canary import Visibility
from aya_lib.node.unseen import Missing
from aya_lib.picture import INK, LIMIT, MARK, Picture
from aya_lib.show import Note

__all__ = ["Picture", "visibility"]


def visibility(found: Visibility | Missing) -> Picture | Note:
    """Milliseconds until each marked row was visible, in the order they were written, with p50 and p95."""
    if not isinstance(found, Visibility) or not found.seen:
        return Note("No plot: no row arrived." if isinstance(found, Visibility) else "No plot: not measured.", "quiet")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.5, 2.6), facecolor="none", layout="constrained")
    axes = figure.add_subplot(facecolor="none")
    arrived = [(number, value) for number, value in enumerate(found.milliseconds, 1) if value is not None]
    lost = [number for number, value in enumerate(found.milliseconds, 1) if value is None]
    axes.vlines([n for n, _ in arrived], 0, [v for _, v in arrived], color=MARK, alpha=0.35, linewidth=2)
    axes.plot([n for n, _ in arrived], [v for _, v in arrived], "o", color=MARK, markersize=5)
    for percent, style in ((50, "-"), (95, "--")):
        value = found.percentile(percent) or 0
        axes.axhline(value, color=INK, linestyle=style, linewidth=1)
        axes.annotate(
            f"p{percent} {value:.1f} ms",
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(5, -3),
            textcoords="offset points",
            color=INK,
            fontsize=9,
        )
    for number in lost:
        axes.axvline(number, color=LIMIT, linewidth=2)
    axes.set_xlabel("marked row", color=INK)
    axes.set_ylabel("ms until visible", color=INK)
    axes.set_title(f"Commit on {found.primary} to visible on {found.standby}", color=INK, fontsize=11, loc="left")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return Picture(figure, f"Plot: milliseconds until each of {len(arrived)} marked rows was visible on {found.standby}")
