"""Three real clusters and an embedding service on one machine, and faults to inject."""

from aya_lib.lab.access import env, psql
from aya_lib.lab.lab import delete, down, reset, up

__all__ = ["delete", "down", "env", "psql", "reset", "up"]
