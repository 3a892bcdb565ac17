"""The one way to time a search, to prove by its plan that the index was used, and to count its recall.

What is timed is one PQexecPrepared from sending to the last row, prepared and binary, so Python has no part in it. The plan of
every measurement is looked at: a search that did not use the index is no measurement of it.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import pq, sql

from aya_lib.errors import AyaError, SqlFailed
from aya_lib.node.sql import Connection
from aya_lib.vectors import truth, wire
from aya_lib.vectors.index import EXACT, Index, Table
from aya_lib.vectors.truth import Recall

STATEMENT = "aya_search"
EXPLAINED = 6  # queries explained at each measurement: plan, server's own time, blocks read
WARMING = 20  # queries before the clock runs
ITSELF = 1e-5  # an answer whose values are all so near to the query's is the row that was asked for


@dataclass(frozen=True)
class Search:
    """The k nearest by an index with its knob (probes, ef_search) at ``value``. ``name``: of the index that the plan must use;
    empty: any index of ours."""

    table: Table
    index: Index
    k: int
    value: int
    name: str = ""


@dataclass(frozen=True)
class SearchPlan:
    """What the server says of a search. ``scan``: the node that finds the rows, and the ``index`` it uses; where the search was
    run, ``reads``: blocks that were not cached, in all explained searches, and ``ms``: median time in the server."""

    scan: str
    index: str | None
    reads: int = 0
    ms: float = math.nan

    def uses(self, search: Search) -> bool:
        """Whether it is a measurement of the search's index; exact search needs none."""
        return not search.index.method or (self.index is not None and search.name in ("", self.index))


@dataclass(frozen=True)
class Timing:
    """What was measured, before anything is computed from it. ``seconds`` (n,): of each search; ``answers``: its rows, a value
    each in binary; ``asked`` (n,): which query it was; ``wall``: seconds for all clients."""

    seconds: NDArray[np.float64]
    answers: list[list[bytes]]
    asked: NDArray[np.int64]
    wall: float
    clients: int
    plan: SearchPlan

    @property
    def qps(self) -> float:
        return len(self.seconds) / self.wall

    def percentile(self, percent: float) -> float:
        """Milliseconds within which so many percent of the searches were answered."""
        return float(np.percentile(self.seconds, percent)) * 1000

    def keys(self, k: int) -> NDArray[np.int64]:
        """The integer keys that were returned, (n, k); -1 where a search returned fewer."""
        keys = np.full((len(self.answers), k), -1, np.int64)
        for number, answer in enumerate(self.answers):
            keys[number, : len(answer)] = [int.from_bytes(value, "big", signed=True) for value in answer]
        return keys


def time_searches(
    sessions: Sequence[Connection],
    search: Search,
    queries: NDArray[np.float32],
    *,
    budget_s: float,
    least: int = 50,
    seed: int = 1,
) -> Timing | SearchPlan:
    """Ask every query once, in random order, over so many sessions at once; after ``budget_s`` no new one, but ``least``.

    Where the plan does not use the index, nothing is timed, and the plan is returned. Settings stay as they are set here.
    """
    for session in sessions:
        prepare(session, search)
    order = np.random.default_rng(seed).permutation(len(queries))
    messages = [wire.parameter(query) for query in queries]
    plan = explain(sessions[0], queries[order[:EXPLAINED]])
    if not plan.uses(search):
        return plan
    shares = [order[number :: len(sessions)] for number in range(len(sessions))]
    for session, share in zip(sessions, shares, strict=True):
        for number in share[:WARMING]:
            _ask(session.pgconn, messages[number])
    fewest = -(-least // len(sessions))
    clients = [
        _Client(session.pgconn, messages, share, budget_s, fewest) for session, share in zip(sessions, shares, strict=True)
    ]
    wall = _together(clients)
    asked = np.concatenate([client.share[: len(client.seconds)] for client in clients])
    seconds = np.concatenate([client.seconds for client in clients])
    answers = [_values(answer) for client in clients for answer in client.answers]
    return Timing(seconds, answers, asked, wall, len(sessions), plan)


def recall_by_searches(
    session: Connection,
    search: Search,
    queries: NDArray[np.float32],
    kth: NDArray[np.float64],
    settings: Mapping[str, str] | None = None,
) -> tuple[Recall, Timing] | SearchPlan:
    """Recall@k of a live index on rows of its own table (q, d), prepared for the metric; each is left out of its own answers.

    ``kth`` (q,): the distance of each one's true k-th other row. ``settings``: of the session, beside the knob (where a
    sequential scan would win: ``{"enable_seqscan": "off"}``). The answers are vectors, so no key is needed, whatever its type.
    The plan, when it does not use the index. Never more searches than queries.
    """
    configure(session, settings or {})
    table = replace(search.table, key=search.table.column)
    timing = time_searches([session], replace(search, table=table, k=search.k + 1), queries, budget_s=math.inf)
    if isinstance(timing, SearchPlan):
        return timing
    shares, limits = np.zeros(len(queries)), truth.limits(kth)
    for number, answer in zip(timing.asked, timing.answers, strict=True):
        others = _without(_vectors(answer, table), queries[number])[: search.k]
        shares[number] = (table.metric.paired(queries[number], others) <= limits[number]).sum() / search.k
    return truth.interval(shares), timing


def exact_distances(
    session: Connection, table: Table, queries: NDArray[np.float32], k: int, *, own: bool = False
) -> NDArray[np.float64]:
    """The distances of the k nearest rows by exact searches of the server, ascending, (q, k); infinite where there
    are fewer rows. ``own``: queries are rows of the table, left out of their own."""
    configure(session, {"enable_indexscan": "off", "enable_seqscan": "on"})
    prepare(session, Search(replace(table, key=table.column), EXACT, k + own, 0))
    rows = []
    for query in queries:
        vectors = _vectors(_values(_ask(session.pgconn, wire.parameter(query))), table)
        others = (_without(vectors, query) if own else vectors)[:k]
        distances = np.sort(table.metric.paired(query, others))
        rows.append(np.append(distances, [np.inf] * (k - len(distances))))
    configure(session, {"enable_indexscan": "on"})
    return np.array(rows)


def sample(session: Connection, table: Table, count: int) -> NDArray[np.float32]:
    """Rows of the table to ask for (q, d), prepared for the metric, the same ones at each call; zero vectors are left out."""
    text = "SELECT {column}::vector FROM {table} WHERE {column} IS NOT NULL ORDER BY md5({key}::text) LIMIT {count}"
    names = {"column": sql.Identifier(table.column), "table": table.identifier, "key": sql.Identifier(table.key)}
    select = sql.SQL(text).format(count=sql.Literal(count), **names)
    blocks = list(wire.copy_out(session, select, table.dimension))
    vectors = np.concatenate(blocks) if blocks else np.empty((0, table.dimension), np.float32)
    return table.metric.prepare(vectors[vectors.any(axis=1)])


def configure(session: Connection, settings: Mapping[str, str]) -> None:
    """Settings of the session, until they are set otherwise."""
    for name, value in settings.items():
        session.execute("SELECT set_config(%s, %s, false)", (name, value))


def prepare(session: Connection, search: Search) -> None:
    """Set the knob and prepare the search anew, so that its plan is the one for this setting."""
    configure(session, {**search.index.settings(search.value), "plan_cache_mode": "force_generic_plan", "jit": "off"})
    session.pgconn.exec_(f"DEALLOCATE {STATEMENT}".encode())  # refused the first time: there is none yet
    text = search.index.search(search.table, search.k, search.value).as_bytes(session)
    done = session.pgconn.prepare(STATEMENT.encode(), text)
    if done.status != pq.ExecStatus.COMMAND_OK:
        raise _failed(done)


def explain(session: Connection, queries: NDArray[np.float32], *, run: bool = True) -> SearchPlan:
    """The plan of the prepared search. ``run``: also the time in the server, and blocks read; the first run of each query warms,
    the second counts. Without it one query is enough, and nothing is searched."""
    options = "ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON" if run else "FORMAT JSON"
    times, reads, plan = [], 0, {}
    for query in queries:
        literal = sql.Literal("[" + ",".join(map(str, query.tolist())) + "]")
        text = sql.SQL("EXPLAIN ({}) EXECUTE {}({})").format(sql.SQL(options), sql.Identifier(STATEMENT), literal)
        if run:
            session.execute(text)
        row = session.execute(text).fetchone()
        document: Any = row[0] if row else None
        document = json.loads(document) if isinstance(document, str) else document
        plan = document[0]["Plan"]
        times.append(float(document[0].get("Execution Time", math.nan)))
        reads += int(plan.get("Shared Read Blocks", 0))
    while plan.get("Plans"):  # the node that reads the table
        plan = plan["Plans"][0]
    return SearchPlan(str(plan["Node Type"]), plan.get("Index Name"), reads, float(np.median(times)))


def planned(session: Connection, search: Search, query: NDArray[np.float32]) -> SearchPlan:
    """The plan of a search with the session's settings as they are; nothing is searched."""
    prepare(session, search)
    return explain(session, query[None, :], run=False)


class _Client:
    """One client: asks its share of the queries, one after the other."""

    def __init__(
        self, connection: pq.abc.PGconn, messages: list[bytes], share: NDArray[np.int64], budget_s: float, least: int
    ) -> None:
        self._connection, self._messages, self.share = connection, messages, share
        self._budget_s, self._least = budget_s, least
        self.seconds: list[float] = []
        self.answers: list[pq.abc.PGresult] = []
        self.error: BaseException | None = None
        self.span = (0.0, 0.0)

    def run(self, start: threading.Barrier) -> None:
        try:
            start.wait(60)
            began = time.perf_counter()
            before = began
            for number in self.share:
                self.answers.append(_ask(self._connection, self._messages[number]))
                after = time.perf_counter()
                self.seconds.append(after - before)
                before = after
                if after - began > self._budget_s and len(self.seconds) >= self._least:
                    break
            self.span = (began, before)
        except BaseException as error:
            self.error = error


def _together(clients: list[_Client]) -> float:
    """Run all clients at once; seconds from the first start to the last end. The main thread stays free for Ctrl-C."""
    barrier = threading.Barrier(len(clients))
    if len(clients) == 1:
        clients[0].run(barrier)
    else:
        threads = [threading.Thread(target=client.run, args=(barrier,), daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for client in clients:
        if client.error is not None:
            raise client.error
    return max(client.span[1] for client in clients) - min(client.span[0] for client in clients)


def _ask(connection: pq.abc.PGconn, message: bytes) -> pq.abc.PGresult:
    result = connection.exec_prepared(STATEMENT.encode(), [message], [1], 1)
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise _failed(result)
    return result


def _failed(result: pq.abc.PGresult) -> AyaError:
    message = (result.error_message or b"").decode("utf-8", "replace").strip().removeprefix("ERROR:").strip()
    message = message.splitlines()[0] if message else "the search failed"
    hint = "The table was dropped while it was measured: run it again" if "does not exist" in message else ""
    return SqlFailed("the benchmark", message, hint=hint)


def _values(answer: pq.abc.PGresult) -> list[bytes]:
    return [answer.get_value(place, 0) or b"" for place in range(answer.ntuples)]


def _vectors(values: list[bytes], table: Table) -> NDArray[np.float32]:
    """Answers that are vectors (n, d), prepared for the metric."""
    return table.metric.prepare(np.array([wire.vector(value) for value in values], np.float32).reshape(-1, table.dimension))


def _without(answers: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """The answers (n, d) without the first that is the query itself."""
    itself = np.flatnonzero(np.abs(answers - query).max(axis=1, initial=0) < ITSELF)[:1]
    return np.delete(answers, itself, axis=0)
