"""Backups: make one, prove it by a restore, and delete what is older than the window."""

from aya_lib.backup.elsewhere import look as elsewhere
from aya_lib.operations.backup.judge import copied, made, preconditions, proven
from aya_lib.operations.backup.look import look, request
from aya_lib.operations.backup.plan import copy, plan, proof, prune

__all__ = ["copied", "copy", "elsewhere", "look", "made", "plan", "preconditions", "proof", "proven", "prune", "request"]
