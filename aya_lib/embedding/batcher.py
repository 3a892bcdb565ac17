"""Texts that arrive together are encoded together: one worker, batches of like length, a bounded queue.

A batch is the text that has waited longest and those that are nearest to it in length: little is padded, nobody starves.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aya_lib.embedding.encoder import Vectors

Encode = Callable[[Sequence[Sequence[int]]], Vectors]

FEW = 4  # a request of at most so many texts is somebody's search; a bulk load gets every second batch at most
SEEN = 512  # waiting texts among which those of like length are looked for


class QueueFull(Exception):
    """More texts wait than the service wants to keep."""


@dataclass(eq=False)
class Waiting:
    ids: Sequence[int]
    future: asyncio.Future[Vectors]
    keep: Callable[[Vectors], None]


class Batcher:
    """Everything but ``encode`` runs on the event loop; ``encode`` runs in ``worker``, one batch at a time.

    ``report(texts, tokens, seconds)`` is told of each batch.
    """

    def __init__(
        self, worker: ThreadPoolExecutor, report: Callable[[int, int, float], None], *, texts: int, wait_s: float, limit: int
    ) -> None:
        self.worker, self.report = worker, report
        self.texts, self.wait_s, self.limit = texts, wait_s, limit
        self.few: deque[Waiting] = deque()
        self.many: deque[Waiting] = deque()
        self.arrived = asyncio.Event()
        self.busy_since: float | None = None
        self.error: str | None = None  # of the last batch; None when it succeeded
        self.closing = False
        self.bulk_next = False

    def __len__(self) -> int:
        return len(self.few) + len(self.many)

    async def vectors(self, ids: Sequence[Sequence[int]], keep: Sequence[Callable[[Vectors], None]]) -> list[Vectors]:
        """The vectors, in order; ``keep`` is given each as soon as it is there. :class:`QueueFull` when there is no room for all
        of them. When the caller is cancelled, what still waits is not encoded any more."""
        if not ids:
            return []
        if len(self) + len(ids) > self.limit:
            raise QueueFull(f"{len(self)} texts are waiting, at most {self.limit} may")
        loop = asyncio.get_running_loop()
        waiting = [Waiting(one, loop.create_future(), kept) for one, kept in zip(ids, keep, strict=True)]
        (self.few if len(ids) <= FEW else self.many).extend(waiting)
        self.arrived.set()
        try:
            return list(await asyncio.gather(*(each.future for each in waiting)))
        except asyncio.CancelledError:
            self._drop(waiting)
            raise

    async def run(self, encode: Encode, budget: int) -> None:
        """Serve the queue until :meth:`close`; what is queued then is finished first. ``budget``: padded tokens of a batch."""
        while True:
            if not len(self):
                if self.closing:
                    return
                self.arrived.clear()
                await self.arrived.wait()
                if len(self) < self.texts and not self.closing:
                    await asyncio.sleep(self.wait_s)  # who comes a moment later comes along
                continue
            await self._one(encode, self._next(budget))

    def close(self) -> None:
        self.closing = True
        self.arrived.set()

    def _next(self, budget: int) -> list[Waiting]:
        """The next batch: searches first, but a bulk load gets every second one; the rest of the room is for either."""
        first = self.few if self.few and not (self.many and self.bulk_next) else self.many
        self.bulk_next = first is self.few
        oldest = first[0]
        seen = sorted(
            [*itertools.islice(self.few, SEEN), *itertools.islice(self.many, SEEN)],
            key=lambda each: (each is not oldest, abs(len(each.ids) - len(oldest.ids))),
        )
        batch: list[Waiting] = []
        longest = 0
        for each in seen[: self.texts]:
            longest = max(longest, len(each.ids))
            if batch and longest * (len(batch) + 1) > budget:
                break
            batch.append(each)
        self._drop(batch)
        return batch

    def _drop(self, waiting: Sequence[Waiting]) -> None:
        """Take these out of the queues."""
        chosen = set(map(id, waiting))
        for queue in (self.few, self.many):
            kept = [each for each in queue if id(each) not in chosen]
            queue.clear()
            queue.extend(kept)

    async def _one(self, encode: Encode, batch: list[Waiting]) -> None:
        started = self.busy_since = time.monotonic()
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(self.worker, encode, [each.ids for each in batch])
        except Exception as error:  # whatever the network raises, the waiting clients hear it and the next batch is tried
            self.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
            for each in batch:
                if not each.future.done():
                    each.future.set_exception(RuntimeError(self.error))
            return
        finally:
            self.busy_since = None
        self.error = None
        self.report(len(batch), sum(len(each.ids) for each in batch), time.monotonic() - started)
        for each, vector in zip(batch, vectors, strict=True):
            each.keep(vector)
            if not each.future.done():
                each.future.set_result(vector)
