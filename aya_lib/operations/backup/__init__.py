"""Backups: make one, prove it by a restore, and delete what is older than the window."""

from aya_lib.operations.backup.judge import made, preconditions, proven
from aya_lib.operations.backup.look import look, request
from aya_lib.operations.backup.plan import plan, proof, prune

__all__ = ["look", "made", "plan", "preconditions", "proof", "proven", "prune", "request"]
