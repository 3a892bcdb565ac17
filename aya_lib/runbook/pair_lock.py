"""One runbook at a time changes a site, from wherever it is run: locks on both nodes of the pair, held by whoever acts.

They are taken in the site's order, so that of two who come at once exactly one goes on, and kept from the first look to the
verdict. Who only loads or measures takes a lock of its kind, and begins only while nobody acts; who acts does not wait for it.
What they are: :mod:`aya_lib.node.hold`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

from aya_lib.errors import Locked
from aya_lib.node.hold import ANSWER_S, BEAT_S, CONTENTS, Hold, Machine, Server, on_machine
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing, seen
from aya_lib.runbook.lock import OURS, let_go, locked, site_lock, who

IDLE_S = 1800.0  # a notebook that a person left open gives the site back after so long
AGAIN = "Run the notebook again from its first look"


class PairLock:
    """The locks on the nodes. ``held``: where they are; ``missing``: where none could be had, and why.

    :class:`Locked` when somebody else holds one. ``attended``: a person steps through cells, and may leave. ``contents``: it
    loads or measures, and changes no server.
    """

    def __init__(self, nodes: Nodes, runbook: str, *, attended: bool, contents: bool = False) -> None:
        self.site, self._attended = nodes.site.name, attended
        self._stack, self._holds, self._over = ExitStack(), list[Hold](), ""
        self._working, self._used = 0, time.monotonic()
        self._ended = threading.Event()
        let_go(self.site)
        if not os.environ.get("AYA_LOCKED"):  # by our runner
            self._stack.enter_context(site_lock(self.site, runbook, contents=contents))
        try:
            kinds = (partial(Server, key=CONTENTS),) if contents else (Machine, Server)
            self.missing = [str(one) for one in self._take(nodes, who(runbook), kinds) if isinstance(one, Missing)]
            if contents:
                self._nobody_changes_a_role(nodes)
        except BaseException:
            self.release("it was refused")
            raise
        self.held = [hold.where for hold in self._holds]
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        OURS[self.site] = self.release

    @property
    def over(self) -> str:
        """Why it is not held any more; empty while it is. Where no node could be locked at all, there is nothing to lose."""
        return self._over or ("" if self._holds or not self.held else "the connection to every locked node was lost")

    def require(self) -> None:
        """:class:`Locked` unless it is held: somebody else may be at work by now."""
        if self.over:
            raise Locked(
                f"the lock of site {self.site} is not held any more: {self.over}. Nothing further was changed", hint=AGAIN
            )

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around what may take long: a notebook that works is not one that was left. An error gives the lock back."""
        self._working += 1
        try:
            yield
        except BaseException as error:
            self.release(f"the run ended with {type(error).__name__}")
            raise
        finally:
            self._working, self._used = self._working - 1, time.monotonic()

    def release(self, why: str) -> None:
        """Give everything back. Twice is harmless."""
        self._over = self._over or why
        self._ended.set()
        if getattr(self, "_thread", threading.current_thread()) is not threading.current_thread():
            self._thread.join(BEAT_S + ANSWER_S)
        while self._holds:
            self._holds.pop().release()
        self._stack.close()

    def _nobody_changes_a_role(self, nodes: Nodes) -> None:
        """After ours is held: of two who come at once a failover sees us, or we see it."""
        for hold in self._holds:
            if isinstance(hold, Server) and (changing := hold.changing()):
                raise locked(self.site, changing, hold.where)
        for node in nodes.pair:
            listed = seen(node.name, "who holds its lock", partial(on_machine, node))
            if isinstance(listed, list) and listed:
                raise locked(self.site, listed[0], f"the machine of {node.name}")

    def _take(self, nodes: Nodes, me: str, kinds: Sequence[Callable[[Node, str], Hold]]) -> Iterator[Hold | Missing]:
        """Reach all at once, and then take one after the other."""
        tried = [(node, kind) for node in nodes.pair for kind in kinds]
        with ThreadPoolExecutor(len(tried)) as pool:
            opened = list(pool.map(lambda one: seen(one[0].name, "lock it", lambda: one[1](one[0], me)), tried))
        self._holds += [hold for hold in opened if not isinstance(hold, Missing)]
        for (node, _), hold in zip(tried, opened, strict=True):
            taken = hold if isinstance(hold, Missing) else seen(node.name, f"lock {hold.where}", hold.take)
            if isinstance(taken, str) and taken != me:
                assert not isinstance(hold, Missing)
                raise locked(self.site, taken, hold.where)
            if isinstance(taken, Missing) and not isinstance(hold, Missing):
                self._holds.remove(hold)
            yield taken if isinstance(taken, Missing) else hold

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_S):
            for hold in [hold for hold in self._holds if not hold.beat()]:
                self._holds.remove(hold)
                hold.release()
            if self._attended and not self._working and time.monotonic() - self._used > IDLE_S:
                self.release(f"the notebook was not used for {IDLE_S / 60:.0f} minutes")
