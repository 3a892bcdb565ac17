"""Small pieces for tests of restores: statements, plans that are seen to be harmless, and how far WAL is received."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from aya_lib.backup import replay
from aya_lib.backup.look import look
from aya_lib.backup.records import Repository, Target
from aya_lib.cluster import overview, server
from aya_lib.cluster.lsn import number
from aya_lib.cluster.server import Cluster
from aya_lib.errors import AyaError, UsageError
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import column
from aya_lib.plan.change import Plan, apply

T = TypeVar("T")


def sql(node: Node, *statements: str) -> None:
    with node.session(write=True, deadline_s=60) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def asked(node: Node, query: str) -> list[object]:
    with node.session() as connection:
        return column(connection, query)


def walked(found: Plan, nodes: Nodes) -> None:
    """Carry a plan out that drops and empties nothing but copies, and deletes no directory."""
    commands = [step.command for step in found.changes]
    assert not any("DROP" in command and "restored_" not in command for command in commands), commands
    assert not any(word in command for command in commands for word in ("rm -rf", "TRUNCATE", "pg_restore")), commands
    apply(found, nodes, lambda *_: None)


class Fails:
    """An action that fails."""

    def command(self, node: Node) -> str:
        return "false"

    def run(self, node: Node) -> None:
        raise AyaError("it fails")


AIMED = replay.aim


def ended_here(*words: Any, promote: bool = False, **more: Any) -> Target:
    if promote:
        raise AyaError("ended here")
    return AIMED(*words, **more)


def received(nodes: Nodes) -> None:
    """The repository has all WAL that there is."""
    (now,) = asked(nodes["ALPHA"], "SELECT pg_current_wal_flush_lsn()::text")

    def there(found: object) -> bool:
        return isinstance(found, Repository) and found.flushed is not None and number(found.flushed.lsn) >= number(str(now))

    wait.until(lambda: look(nodes), there, node="BETA", what=f"WAL to {now} is received", deadline_s=60, poll_s=0.5)


def streams_back(nodes: Nodes) -> None:
    def streams(found: object) -> bool:
        return ("alpha", "streaming") in [(one.application_name, one.state) for one in getattr(found, "streams", ())]

    wait.until(lambda: overview.look_node(nodes["BETA"]).sender, streams, node="ALPHA", what="it streams", deadline_s=60)


def not_seen(node: Node, service: str) -> None:
    raise AyaError(f"{node.name}: {service} was started, and not seen to answer")


def answers(node: Node) -> None:
    """Wait until the server answers."""
    wait.until(lambda: server.look(node), lambda it: isinstance(it, Cluster), node=node.name, what="it answers", deadline_s=60)


def reachable(look: Callable[[], T]) -> T:
    """What is seen once the receiver of WAL has said how far it is: before, the point may lie past what is known to be safe."""

    def tried() -> T | UsageError:
        try:
            return look()
        except UsageError as error:
            return error

    found = wait.until(
        tried, lambda seen: not isinstance(seen, UsageError), node="BETA", what="WAL is received", deadline_s=60, poll_s=0.5
    )
    assert not isinstance(found, UsageError)
    return found
