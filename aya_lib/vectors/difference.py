"""Two kept comparisons beside each other: before and after a change, or the same vectors on two machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aya_lib.show import Shown, Table
from aya_lib.vectors.index import Index, mb
from aya_lib.vectors.style import STYLE, named

Document = Mapping[str, Any]
WORDS = {
    "version": "PostgreSQL",
    "parallel_maintenance": "parallel build workers",
}  # else as they are called
SERVER = ("node", "version", "pgvector", "shared_buffers", "maintenance_work_mem", "parallel_maintenance", "cores")
RATIOS = ("qps", "p95", "bytes", "build")
SHORT = ("index", "search_settings", "recall", "qps", "latency_ms", "bytes", "build_s")


@dataclass(frozen=True)
class Pair:
    """The same place in two comparisons (today's index, the recommendation, the best of a family); None: not in that one."""

    what: str
    before: Document | None
    after: Document | None

    def ratio(self, name: str) -> float | None:
        """After as a multiple of before, of qps, p95, bytes or build."""
        before, after = (_measures(choice)[name] if choice else None for choice in (self.before, self.after))
        return float(after) / float(before) if before and after else None

    @property
    def recall(self) -> float | None:
        """Recall after less before."""
        return self.after["recall"]["value"] - self.before["recall"]["value"] if self.before and self.after else None

    @property
    def overlap(self) -> bool | None:
        """Do the 95 % intervals of recall overlap? Where they do, the difference may be chance."""
        if not self.before or not self.after:
            return None
        before, after = self.before["recall"], self.after["recall"]
        return bool(before["low"] <= after["high"] and after["low"] <= before["high"])

    def json(self) -> dict[str, Any]:
        short = {
            name: {key: choice.get(key) for key in SHORT} if choice else None
            for name, choice in (("before", self.before), ("after", self.after))
        }
        recall = {"recall_difference": self.recall, "recall_intervals_overlap": self.overlap}
        return {"what": self.what, **short, **{f"{name}_ratio": self.ratio(name) for name in RATIOS}, **recall}

    def line(self) -> tuple[str, ...]:
        before, after = self.before, self.after
        if not before or not after:
            only = before or after or {}
            return (self.what, _name(only), f"{only['qps']:,.0f}", "gone" if before else "new", _recall(only), "", "", "")
        names = "\n-> ".join(dict.fromkeys((_name(before), _name(after))))
        chance = "intervals overlap" if self.overlap else "intervals apart"
        recall = f"{_recall(before)}\n-> {_recall(after)}\n{self.recall:+.3f}, {chance}"
        ratios = [f"{ratio:.2f}" if (ratio := self.ratio(name)) is not None else "" for name in RATIOS]
        return (self.what, names, f"{before['qps']:,.0f} -> {after['qps']:,.0f}", ratios[0], recall, *ratios[1:])


@dataclass(frozen=True, repr=False)
class Difference(Shown):
    """``unlike``: what differs between the two besides the results, each as a sentence."""

    before: str
    after: str
    pairs: tuple[Pair, ...]
    unlike: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        pairs = [pair.json() for pair in self.pairs]
        return {"schema": 1, "before": self.before, "after": self.after, "unlike": list(self.unlike), "pairs": pairs}

    def table(self) -> Table:
        columns = ("", "index", "searches/s", "x", "recall", "p95", "size", "build")
        legend = "x, p95, size and build: after as a multiple of before; new, gone: only in one of the two."
        notes = (*self.unlike, f"Before: {self.before}. After: {self.after}.", legend)
        lines = tuple(pair.line() for pair in self.pairs)
        return Table(self.headline, columns, lines, notes, "warning" if self.unlike else "plain")

    @property
    def headline(self) -> str:
        """What changed for the one who searches: the recommendation, or what else is in both."""
        times = {pair.what: pair.ratio("qps") for pair in self.pairs}
        for what in ("recommendation", "today"):
            if times.get(what):
                return f"{what.capitalize()}: {times[what]:.2f} times the searches per second of before"
        return "Nothing to compare: neither a recommendation nor today's index is in both"


def difference(before: Document, after: Document) -> Difference:
    """What changed from one saved comparison to another. What makes them unlike is named, and nothing is refused."""
    places = [Pair(what, before.get(what), after.get(what)) for what in ("recommendation", "today")]
    best = [{choice["type"]: choice for choice in document["best_of_family"]} for document in (before, after)]
    places += [Pair(style.word, best[0].get(family), best[1].get(family)) for family, style in STYLE.items()]
    pairs = tuple(pair for pair in places if pair.before or pair.after)
    return Difference(_called(before), _called(after), pairs, tuple(_unlike(before, after)))


def _unlike(before: Document, after: Document) -> list[str]:
    sentences = []
    corpora = before["corpus"], after["corpus"]
    if corpora[0].get("fingerprint") != corpora[1].get("fingerprint"):
        was, now = (f"{corpus.get('name')}, {_plain(corpus.get('rows'))} rows" for corpus in corpora)
        sentences.append(f"Not the same vectors: {was} before, {now} after; recall and speed are not of one thing.")
    facts = _facts(before), _facts(after)
    for word, was in facts[0].items():
        now = facts[1][word]
        if was != now:
            show = mb if word.endswith(("buffers", "_mem")) and was and now else _plain
            sentences.append(f"Not the same {word}: {show(was)} before, {show(now)} after.")
    return sentences


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _called(document: Document) -> str:
    server = document["server"]
    return f"{document.get('at') or 'at an unknown time'} on {server.get('node')} ({document['corpus'].get('name')})"


def _facts(document: Document) -> dict[str, Any]:
    """What must be equal beside the vectors for numbers to be comparable."""
    server = {WORDS.get(key, key): document["server"].get(key) for key in SERVER}
    return {"metric": document["corpus"].get("metric"), "k": document["k"], "target": document["target"], **server}


def _measures(choice: Document) -> dict[str, float | None]:
    p95 = choice["latency_ms"].get("p95")
    return {"qps": choice["qps"], "p95": p95, "bytes": choice.get("bytes"), "build": choice.get("build_s")}


def _name(choice: Document) -> str:
    settings = ", ".join(f"{name.split('.')[-1]}={value}" for name, value in choice["search_settings"].items())
    return "\n".join(part for part in (named(Index(choice["type"], tuple(choice["options"].items()))), settings) if part)


def _recall(choice: Document) -> str:
    recall = choice["recall"]
    return f"{recall['value']:.3f} ({recall['low']:.3f} to {recall['high']:.3f})"
