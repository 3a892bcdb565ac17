"""Questions taken out of chunks, and how well they were answered: recall and mean reciprocal rank, with their intervals."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aya_lib.knowledge.search import MODES, Mode
from aya_lib.node.unseen import Missing
from aya_lib.picture import INK, MARK, Picture, quiet
from aya_lib.show import Note, Shown, Table

DEPTH = 20  # ranks beyond it count as a miss
AT = (1, 3, 5, 10)
LEFT = 100  # characters that a chunk must keep without its question
BELOW = 4  # chunks, at most, that carry a heading that is asked: all of them are embedded again without it
MISSES = 8  # that are shown to be read
COLOURS = (MARK, "#d98b2b", "#2da44e")  # one for each way of searching


@dataclass(frozen=True)
class Passage:
    """A chunk that a question may be taken out of."""

    id: int
    text: str
    title: str
    headings: list[str]
    document: int = 0


@dataclass(frozen=True)
class Question:
    """``text`` was taken out of chunk ``chunk_id``; ``rest`` is what the chunk says without it. ``heading``: as the chunks of
    the ``document`` below it carry it."""

    chunk_id: int
    kind: str
    text: str
    rest: str
    title: str
    heading: str = ""
    document: int = 0


@dataclass(frozen=True)
class Asked:
    """At which rank the chunk came back, by mode (None: not among the first 20), and the chunk that fused search put first."""

    question: Question
    ranks: dict[str, int | None]
    first: str


@dataclass(frozen=True)
class Share:
    """A share or a mean with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """All questions with their ranks, over ``chunks`` chunks."""

    chunks: int
    asked: tuple[Asked, ...]

    def recall(self, mode: Mode, k: int) -> Share:
        """Share of questions whose chunk is among the first k; interval by Wilson (1927)."""
        from scipy.stats import binomtest  # half a second, which loading documents does not need

        hits = sum((rank := asked.ranks[mode]) is not None and rank <= k for asked in self.asked)
        interval = binomtest(hits, len(self.asked)).proportion_ci(method="wilson")
        return Share(hits / len(self.asked), float(interval.low), float(interval.high))

    def mrr(self, mode: Mode) -> Share:
        """Mean of 1/rank, 0 for a miss; percentile bootstrap interval, 2,000 resamples with a fixed seed."""
        values = np.array([1 / rank if (rank := asked.ranks[mode]) else 0.0 for asked in self.asked])
        means = np.random.default_rng(1).choice(values, (2000, len(values))).mean(axis=1)
        return Share(float(values.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)))

    def table(self) -> Table:
        lines = tuple((mode, *(str(self.recall(mode, k)) for k in AT), str(self.mrr(mode))) for mode in MODES)
        kinds = Counter(asked.question.kind for asked in self.asked)
        asked = f"{len(self.asked)} questions ({kinds['heading']} headings, {kinds['sentence']} sentences)"
        title = f"{asked} to {self.chunks} chunks: does the chunk come back?"
        columns = ("search", *(f"recall@{k}" for k in AT), "MRR")
        return Table(title, columns, lines, ("in brackets: 95 % confidence interval",))


@dataclass(frozen=True, repr=False)
class Misses(Shown):
    """Questions whose chunk did not come first in fused search, the worst first."""

    asked: tuple[Asked, ...]

    def table(self) -> Table:
        columns = ("rank", "asked", "stands in", "what came first instead")
        lines = tuple(
            (str(each.ranks["hybrid"] or f"> {DEPTH}"), each.question.text[:160], each.question.title, each.first)
            for each in self.asked
        )
        title = "The worst misses, to be read" if lines else "No chunk to show: none was asked for, or each came first"
        return Table(title, columns, lines)


def questions(chunks: Sequence[Passage], count: int, seed: int) -> list[Question]:
    """Headings and sentences, half of each where there are enough, from chunks that still say something without them."""
    shuffled = list(chunks)
    random.Random(seed).shuffle(shuffled)
    carried = Counter((chunk.document, heading) for chunk in chunks for heading in set(chunk.headings))
    chosen: dict[str, list[Question]] = {"heading": [], "sentence": []}
    for chunk in shuffled:
        fewest_first = sorted(chosen, key=lambda kind: len(chosen[kind]))
        made = next((question for kind in fewest_first if (question := _question(chunk, kind))), None)
        made = None if made and carried[made.document, made.heading] > BELOW else made
        if made:
            chosen[made.kind].append(made)
        if sum(map(len, chosen.values())) >= count:
            break
    return [*chosen["heading"], *chosen["sentence"]]


def _question(chunk: Passage, kind: str) -> Question | None:
    if kind == "heading":
        line = re.match(r"#{1,6}[ \t]+(.{12,200})\n", chunk.text)
        taken = line[1] if line else None
    else:
        sentences = re.findall(r"(?:(?<=[.!?]\s)|(?<=\n\n))[A-Z][^.!?|#\n]{30,250}[.!?](?=\s|$)", chunk.text)
        taken = max(sentences, key=len) if sentences else None
    if not taken:
        return None
    rest = re.sub(r"^#{1,6}\s*\n", "", chunk.text.replace(taken, "", 1)).strip()
    words = " ".join(re.sub(r"^[\d.\s]+|[#*`]", "", taken).split())
    heading = " ".join(re.sub("[*`]", "", taken).split()) if kind == "heading" else ""
    title = " > ".join(dict.fromkeys([chunk.title, *chunk.headings]))
    enough = len(rest) >= LEFT and len(words) >= 12 and words not in chunk.title
    return Question(chunk.id, kind, words, rest, title, heading, chunk.document) if enough else None


def held_out(chunks: Sequence[Passage], asked: Sequence[Question]) -> list[Passage]:
    """The chunks that are others without the questions: no text, and no heading above one, says what is asked."""
    taken, rest = {(one.document, one.heading) for one in asked}, {one.chunk_id: one.rest for one in asked}
    found = []
    for chunk in chunks:
        left = [heading for heading in chunk.headings if (chunk.document, heading) not in taken]
        if chunk.id in rest or left != chunk.headings:
            found.append(replace(chunk, text=rest.get(chunk.id, chunk.text), headings=left))
    return found


def misses(evaluation: Evaluation | Missing) -> Misses:
    """What fused search ranked worst, to be read."""
    asked = evaluation.asked if isinstance(evaluation, Evaluation) else ()
    worst = sorted(asked, key=lambda each: -(each.ranks["hybrid"] or DEPTH + 1))[:MISSES]
    return Misses(tuple(each for each in worst if each.ranks["hybrid"] != 1))


def retrieval(evaluation: Evaluation | Missing) -> Picture | Note:
    """Recall over the number of results that are looked at, with 95 % intervals, and MRR, for each way of searching."""
    if not isinstance(evaluation, Evaluation):
        return Note("No plot: not measured.", "quiet")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), facecolor="none", layout="constrained")
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
