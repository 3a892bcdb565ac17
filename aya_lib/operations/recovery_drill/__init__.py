"""The recovery drill: restore a backup beside, compare it, say how long each phase took, and remove everything."""

from aya_lib.operations.recovery_drill.judge import drilled, preconditions
from aya_lib.operations.recovery_drill.look import look, request, result
from aya_lib.operations.recovery_drill.plan import plan
from aya_lib.operations.recovery_drill.plots import plot

__all__ = ["drilled", "look", "plan", "plot", "preconditions", "request", "result"]
