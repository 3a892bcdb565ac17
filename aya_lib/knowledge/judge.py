"""Whether the knowledge base can be loaded and asked, holds what the files say, and is searched well."""

from __future__ import annotations

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.embedding.client import Served
from aya_lib.knowledge import provenance
from aya_lib.knowledge.evaluation import Evaluation
from aya_lib.knowledge.loaded import ASKED, NEAR, Loaded
from aya_lib.knowledge.provenance import Recorded
from aya_lib.knowledge.ready import Ready
from aya_lib.knowledge.report import Report
from aya_lib.node.unseen import Missing
from aya_lib.show import Note


def preconditions(ready: Ready) -> list[Check]:
    """Someone writes, someone embeds, and it is the same model; one that is not recorded passes: loading verifies it."""

    def same(recorded: Recorded | None) -> Judged:
        if isinstance(ready.served, Served) and recorded:
            try:
                provenance.refuse(recorded, ready.served)
            except provenance.WrongModel as error:
                return passed_if(False, error.message, error.hint)
        return passed_if(True, recorded.model if recorded and recorded.model else "not recorded yet: loading verifies it")

    def healthy(served: Served) -> Judged:
        return passed_if(True, f"{served.model}, {served.dimension} dimensions, on {served.node}")

    return [
        evaluate("one node accepts writes", "one", ready.node, lambda name: passed_if(True, name), hint="Run restore"),
        evaluate("an embedding service is healthy", "one", ready.served, healthy, hint="Run restore"),
        evaluate("the vectors are of this encoder", "the same model", ready.recorded, same),
    ]


def loaded(found: Loaded | Missing, report: Report | Note) -> list[Check]:
    """Counts add up, every chunk can be searched both ways, and searching finds what was loaded."""
    failed = [*report.tally.failed, *report.tally.partly] if isinstance(report, Report) else []

    def files(there: Loaded) -> Judged:
        reason = f"; {failed[0].path}: {failed[0].reason}" if failed else ""
        complete = there.current == there.files and not failed
        return passed_if(complete, f"{there.current} of {there.files}{reason}", "The table above names the files and the reasons")

    def all_but(without: int, chunks: int) -> Judged:
        return passed_if(without == 0 and chunks > 0, f"{chunks - without} of {chunks}")

    def vectors(there: Loaded) -> Judged:
        return all_but(there.counts.without_vector, there.counts.chunks)

    def words(there: Loaded) -> Judged:
        return all_but(there.counts.without_words, there.counts.chunks)

    def searched(there: Loaded) -> Judged:
        hint = "Run evaluate_search: it shows what is missed"
        return passed_if(there.found == there.asked > 0, f"{there.found} of {there.asked} among the first {NEAR} results", hint)

    return [
        evaluate("every file is a document with its content", "all", found, files),
        evaluate("every chunk has a vector", "all", found, vectors, hint="Load the documents again"),
        evaluate("every chunk has its words", "all", found, words, hint="The ingest runbook fills them"),
        evaluate("searching finds what was loaded", f"{ASKED} or all documents", found, searched),
    ]


def searched(evaluation: Evaluation | Missing, recall_at_10: float) -> list[Check]:
    """The asked recall is met by fused search, and fusing is not worse than either of its halves."""

    def enough(measured: Evaluation) -> Judged:
        recall = measured.recall("hybrid", 10)
        hint = "Read the worst misses: duplicates, chunks too small, another language?"
        return passed_if(recall.high >= recall_at_10, str(recall), hint)

    def fused(measured: Evaluation) -> Judged:
        both, best = measured.mrr("hybrid"), max(measured.mrr("vector"), measured.mrr("text"), key=lambda share: share.value)
        observed = f"MRR {both.value:.2f}, the better half {best.value:.2f}"
        hint = "Search with the better mode; fusing with the worse list costs here"
        return Judged("passed" if both.high >= best.value else "warning", observed, hint)

    return [
        evaluate("fused search finds what is there", f"recall@10 of {recall_at_10:g}, within its interval", evaluation, enough),
        evaluate("fusing is no worse than its better half", "MRR", evaluation, fused),
    ]
