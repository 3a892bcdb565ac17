"""Bring a node back as a standby: what the runbooks rejoin and switchback call, in the order in which they do."""

from aya_lib.cluster.overview import look as look_at_site
from aya_lib.operations.rejoin.judge import equal, follows, preconditions
from aya_lib.operations.rejoin.look import look
from aya_lib.operations.rejoin.plan import plan, rest

__all__ = ["equal", "follows", "look", "look_at_site", "plan", "preconditions", "rest"]
