"""The state of a site at a glance, for a runbook."""

from aya_lib.cluster.judge.overview import checks
from aya_lib.cluster.overview import look_site as look

__all__ = ["checks", "look"]
