"""Prove that the standby follows the primary. For a runbook: look and measure, each with its checks."""

from aya_lib.cluster.application import look as application
from aya_lib.cluster.canary import leftover, refused_write, visibility
from aya_lib.cluster.contents import look as contents
from aya_lib.cluster.judge.standby import ready
from aya_lib.cluster.overview import look_site as look
from aya_lib.cluster.standby import look as look_ready
from aya_lib.operations.verify.judge import equal, gone, refused, roles, streaming, visible, works
from aya_lib.operations.verify.plots import plot

__all__ = [
    "application",
    "contents",
    "equal",
    "gone",
    "leftover",
    "look",
    "look_ready",
    "plot",
    "ready",
    "refused",
    "refused_write",
    "roles",
    "streaming",
    "visibility",
    "visible",
    "works",
]
