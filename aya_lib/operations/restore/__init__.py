"""Find what is down and bring it back. For a runbook: look, preconditions, plan, and what must hold in the end."""

from aya_lib.operations.restore.judge import embeds, preconditions, restored
from aya_lib.operations.restore.look import look, look_vector
from aya_lib.operations.restore.plan import plan

__all__ = ["embeds", "look", "look_vector", "plan", "preconditions", "restored"]
