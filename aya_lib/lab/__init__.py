"""Three real clusters and an embedding service on one machine, and faults to inject."""

from aya_lib.lab.access import env, psql
from aya_lib.lab.lab import delete, down, is_there, require, reset, up

__all__ = ["delete", "down", "env", "is_there", "psql", "require", "reset", "up"]
