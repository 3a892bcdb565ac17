"""Prove that the standby follows the primary. For a runbook: look and measure, each with its checks."""

from aya_lib.cluster.canary import leftover, refused_write, visibility
from aya_lib.cluster.contents import look as contents
from aya_lib.cluster.overview import look_site as look
from aya_lib.cluster.replication import look_logins as logins
from aya_lib.operations.verify.judge import equal, gone, may_receive, refused, roles, streaming, visible
from aya_lib.operations.verify.plots import plot

__all__ = [
    "contents",
    "equal",
    "gone",
    "leftover",
    "logins",
    "look",
    "may_receive",
    "plot",
    "refused",
    "refused_write",
    "roles",
    "streaming",
    "visibility",
    "visible",
]
