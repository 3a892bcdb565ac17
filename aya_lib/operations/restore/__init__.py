"""Find what is down and bring it back. For a runbook: look, preconditions, plan, and what must hold in the end."""

from aya_lib.cluster.application import look as application
from aya_lib.operations.restore.judge import embeds, patience, restored, works
from aya_lib.operations.restore.look import look, look_vector
from aya_lib.operations.restore.plan import plan, preconditions

__all__ = ["application", "embeds", "look", "look_vector", "patience", "plan", "preconditions", "restored", "works"]
