"""How well each way of searching finds what is there, as a figure."""

from __future__ import annotations

from aya_lib.knowledge.evaluation import DEPTH, Evaluation
from aya_lib.knowledge.search import MODES
from aya_lib.node.unseen import Missing
from aya_lib.picture import INK, MARK, Picture, canvas, quiet
from aya_lib.show import Note

COLOURS = (MARK, "#d98b2b", "#2da44e")  # one for each way of searching


def retrieval(evaluation: Evaluation | Missing) -> Picture | Note:
    """Recall over the number of results that are looked at, with 95 % intervals, and MRR, for each way of searching."""
    if not isinstance(evaluation, Evaluation):
        return Note("No plot: not measured.", "quiet")
    figure = canvas(9, 3.4)
    curve, bars = figure.subplots(1, 2, width_ratios=(2, 1), subplot_kw={"facecolor": "none"})
    depths = list(range(1, DEPTH + 1))
    for place, (mode, colour) in enumerate(zip(MODES, COLOURS, strict=True)):
        points = [evaluation.recall(mode, k) for k in depths]
        curve.plot(depths, [share.value for share in points], color=colour, linewidth=2, label=mode)
        low, high = [share.low for share in points], [share.high for share in points]
        curve.fill_between(depths, low, high, color=colour, alpha=0.12, linewidth=0)
        mean = evaluation.mrr(mode)
        error = [[mean.value - mean.low], [mean.high - mean.value]]
        bars.bar(place, mean.value, color=colour, alpha=0.75, yerr=error, ecolor=INK, capsize=4)
        bars.annotate(f"{mean.value:.2f}", (place, 0.02), ha="center", color="white", fontsize=10, fontweight="bold")
    curve.set(xlabel="results looked at (k)", ylabel="recall@k", ylim=(0, 1), xlim=(1, DEPTH), xticks=(1, 3, 5, 10, 15, 20))
    curve.legend(frameon=False, labelcolor=INK, loc="lower right")
    bars.set(ylim=(0, 1), title="MRR", xticks=range(len(MODES)), xticklabels=MODES)
    for axes in (curve, bars):
        quiet(axes)
    best = max(MODES, key=lambda mode: evaluation.mrr(mode).value)
    fused = evaluation.recall("hybrid", 10)
    return Picture(figure, f"Best by MRR: {best}, {evaluation.mrr(best)}; recall@10 of fused search {fused}")
