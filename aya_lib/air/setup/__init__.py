"""The runbook air_setup: make a laptop of the site, and try whether it synchronises."""

from aya_lib.air.link import laptop
from aya_lib.air.setup.canary import synchronises, trial
from aya_lib.air.setup.judge import done, online, preconditions
from aya_lib.air.setup.look import Setup, look
from aya_lib.air.setup.plan import plan
from aya_lib.air.status import look_at as look_status

__all__ = ["Setup", "done", "laptop", "look", "look_status", "online", "plan", "preconditions", "synchronises", "trial"]
