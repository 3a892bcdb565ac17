"""How long drills took, by phase, over time: one bar a drill, and the forecast for the present size."""

from __future__ import annotations

from aya_lib.node.unseen import Missing
from aya_lib.operations.recovery_drill.history import Drill
from aya_lib.operations.recovery_drill.judge import forecast
from aya_lib.operations.recovery_drill.look import Found
from aya_lib.picture import INK, Picture, canvas, quiet
from aya_lib.show import Note

COLOURS = {
    "fetch": "#57606a",
    "read every file": "#8b949e",
    "read the WAL": "#6e7bd9",
    "put together": "#2f81f7",
    "recover": "#1fb6a6",
    "compare": "#d29922",
    "search": "#c76bd6",
    "load the dump": "#e5734b",
}
LAST = 12  # drills shown


def plot(found: Found, last: Drill | Missing) -> Picture | Note:
    """Seconds of each phase of the last drills, the newest at the right; a line: what it would take now."""
    past = [one for one in (found.past if isinstance(found.past, tuple) else ()) if not one.fault]
    drills = [*past, *([last] if isinstance(last, Drill) and last not in past and not last.fault else [])][-LAST:]
    if not drills:
        return Note("No plot: no drill has ended well yet.", "quiet")
    figure = canvas(8, 3)
    axes = figure.add_subplot(facecolor="none")
    below = [0.0] * len(drills)
    for phase, colour in COLOURS.items():
        seconds = [one.phases.get(phase, 0.0) for one in drills]
        if any(seconds):
            axes.bar(range(len(drills)), seconds, bottom=below, color=colour, width=0.6, label=phase)
        below = [low + more for low, more in zip(below, seconds, strict=True)]
    for place, one in enumerate(drills):
        axes.text(place, below[place], f"{one.seconds:.1f} s", ha="center", va="bottom", color=INK, fontsize=9)
    ahead = forecast(found, drills[-1])
    if ahead:
        axes.axhline(ahead, color=INK, linestyle="--", linewidth=1)
        axes.text(1.01, ahead, f"now {ahead:.1f} s", transform=axes.get_yaxis_transform(), color=INK, fontsize=9, va="center")
    names = [f"{one.at[5:10]}\n{'light' if one.light else 'whole'}" for one in drills]
    axes.set_xticks(range(len(drills)), names)
    axes.set(ylabel="seconds", xlim=(-0.6, max(3, len(drills)) - 0.4), ylim=(0, 1.2 * max([*below, ahead or 0])))
    axes.set_title("Recovery time by phase", color=INK, fontsize=11, loc="left")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9, labelcolor=INK)
    quiet(axes)
    return Picture(figure, f"Plot: seconds by phase of {len(drills)} drills; the last took {drills[-1].seconds:.1f} s")
