"""The runbook air_sync_check: is the laptop like the primary, and what mends it where it is not?"""

from aya_lib.air.status import look_at as look_status
from aya_lib.air.sync_check.judge import checks, preconditions, waiting
from aya_lib.air.sync_check.look import Comparison, look
from aya_lib.air.sync_check.plan import plan

__all__ = ["Comparison", "checks", "look", "look_status", "plan", "preconditions", "waiting"]
