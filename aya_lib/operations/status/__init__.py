"""The state of a site at a glance."""

from aya_lib.operations.status.judge import checks
from aya_lib.operations.status.look import look

__all__ = ["checks", "look"]
