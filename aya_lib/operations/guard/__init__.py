"""May a node's PostgreSQL start as its data directory is? Asked by its own units and by the lab's keeper."""

from aya_lib.operations.guard.judge import rule
from aya_lib.operations.guard.look import look

__all__ = ["look", "rule"]
