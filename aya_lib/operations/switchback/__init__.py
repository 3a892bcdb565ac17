"""Hand the site back to the node that site.yaml names as primary: what a switchback adds to failover and rejoin."""

from aya_lib.cluster.overview import look as look_at_site
from aya_lib.operations.switchback.judge import as_configured, may_return, mode_before, preconditions

__all__ = ["as_configured", "look_at_site", "may_return", "mode_before", "preconditions"]
