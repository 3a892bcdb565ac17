"""Timing searches as the database answers them: prepared, binary, over libpq's own call, each in its turn.

What is timed is one PQexecPrepared from sending to the last row, so Python has no part in it. The plan of every point is
looked at: a search that did not use the index is no measurement of it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import pq, sql

from aya_lib.errors import AyaError, SqlFailed
from aya_lib.node.sql import Connection
from aya_lib.vectors import wire
from aya_lib.vectors.index import Index, Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STATEMENT = "aya_bench"
LOOKED_AT = 6  # queries explained at each point: plan, server's own time, blocks read
WARMING = 20  # queries before the clock runs


@dataclass(frozen=True)
class Seen:
    """What the server says of a search. ``scan``: the node that finds the rows; ``reads``: blocks that were not cached, in
    all explained searches; ``ms``: median time in the server."""

    scan: str
    index: str | None
    reads: int
    ms: float


@dataclass(frozen=True)
class Raw:
    """What was measured, before anything is computed from it. ``seconds`` (n,): of each search; ``found`` (n, k): the keys
    it returned, -1 where it returned fewer; ``asked`` (n,): which query it was; ``wall``: seconds for all clients."""

    seconds: NDArray[np.float64]
    found: NDArray[np.int64]
    asked: NDArray[np.int64]
    wall: float
    clients: int
    seen: Seen

    @property
    def qps(self) -> float:
        return len(self.seconds) / self.wall

    def percentile(self, percent: float) -> float:
        """Milliseconds within which so many percent of the searches were answered."""
        import numpy as np

        return float(np.percentile(self.seconds, percent)) * 1000


def measure(
    sessions: Sequence[Connection],
    index: Index,
    table: Table,
    queries: NDArray[np.float32],
    k: int,
    value: int,
    *,
    budget_s: float,
    least: int = 50,
    seed: int = 1,
) -> Raw | Seen:
    """Ask every query once, in random order, over so many sessions at once; after ``budget_s`` no new one, but ``least``.

    ``value``: of the index's knob. Where the plan does not use an index of ours, nothing is timed, and what was seen of the
    plan is returned. The sessions' settings stay as they are set here.
    """
    import numpy as np

    for session in sessions:
        prepare(session, index, table, k, value)
    order = np.random.default_rng(seed).permutation(len(queries))
    messages = [wire.parameter(query) for query in queries]
    seen = explain(sessions[0], queries[order[:LOOKED_AT]])
    if index.method and seen.index is None:
        return seen
    shares = [order[number :: len(sessions)] for number in range(len(sessions))]
    for session, share in zip(sessions, shares, strict=True):
        for number in share[:WARMING]:
            _ask(session.pgconn, messages[number])
    clients = [
        _Client(session.pgconn, messages, share, budget_s, -(-least // len(sessions)))
        for session, share in zip(sessions, shares, strict=True)
    ]
    wall = _together(clients)
    asked = np.concatenate([client.share[: len(client.seconds)] for client in clients])
    seconds = np.concatenate([client.seconds for client in clients])
    answers = [answer for client in clients for answer in client.answers]
    return Raw(seconds, _keys(answers, k), asked, wall, len(sessions), seen)


def prepare(session: Connection, index: Index, table: Table, k: int, value: int) -> None:
    """Set the knob and prepare the search anew, so that its plan is the one for this setting."""
    for name, setting in index.settings(value).items():
        session.execute("SELECT set_config(%s, %s, false)", (name, setting))
    session.execute("SET plan_cache_mode = force_generic_plan")
    session.execute("SET jit = off")
    session.pgconn.exec_(f"DEALLOCATE {STATEMENT}".encode())  # refused the first time: there is none yet
    text = index.search(table, k, value).as_bytes(session)
    done = session.pgconn.prepare(STATEMENT.encode(), text)
    if done.status != pq.ExecStatus.COMMAND_OK:
        raise _failed(done)


def explain(session: Connection, queries: NDArray[np.float32]) -> Seen:
    """Plan, time in the server, and blocks read, of the prepared search; the first run of each query warms, the second counts."""
    import numpy as np

    times, reads, plan = [], 0, {}
    for query in queries:
        literal = sql.Literal("[" + ",".join(map(str, query.tolist())) + "]")
        statement = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE {}({})")
        text = statement.format(sql.Identifier(STATEMENT), literal)
        session.execute(text)
        row = session.execute(text).fetchone()
        said: Any = row[0] if row else None
        if isinstance(said, str):
            said = json.loads(said)
        plan = said[0]["Plan"]
        times.append(float(said[0]["Execution Time"]))
        reads += int(plan.get("Shared Read Blocks", 0))
    node = _scan(plan)
    return Seen(str(node["Node Type"]), node.get("Index Name"), reads, float(np.median(times)))


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
    said = (result.error_message or b"").decode("utf-8", "replace").strip().removeprefix("ERROR:").strip()
    said = said.splitlines()[0] if said else "the search failed"
    hint = "The table was dropped while it was measured: run it again" if "does not exist" in said else ""
    return SqlFailed("the benchmark", said, hint=hint)


def _keys(answers: Sequence[pq.abc.PGresult], k: int) -> NDArray[np.int64]:
    import numpy as np

    found = np.full((len(answers), k), -1, np.int64)
    for number, answer in enumerate(answers):
        for place in range(min(k, answer.ntuples)):
            found[number, place] = int.from_bytes(answer.get_value(place, 0) or b"", "big", signed=True)
    return found


def _scan(plan: dict[str, Any]) -> dict[str, Any]:
    """The node of a plan that reads the table."""
    while plan.get("Plans"):
        plan = plan["Plans"][0]
    return plan
