"""Make the standby the primary: what the runbooks failover and switchback call, in the order in which they do."""

from aya_lib.cluster.overview import look as look_at_site
from aya_lib.operations.failover.judge import loss, preconditions, remains, served, serves
from aya_lib.operations.failover.look import look, look_after, request
from aya_lib.operations.failover.plan import close, plan

__all__ = [
    "close",
    "look",
    "look_after",
    "look_at_site",
    "loss",
    "plan",
    "preconditions",
    "remains",
    "request",
    "served",
    "serves",
]
