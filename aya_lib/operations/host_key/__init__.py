"""Accept a node's SSH host key when it is the one that the site names. For a runbook: look, preconditions, plan."""

from aya_lib.operations.host_key.judge import preconditions
from aya_lib.operations.host_key.look import look
from aya_lib.operations.host_key.plan import plan

__all__ = ["look", "plan", "preconditions"]
