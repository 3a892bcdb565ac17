"""Let every service start by itself, kill it and see it return. For a runbook: look, plan, and prove it."""

from aya_lib.cluster.overview import look as look_site
from aya_lib.operations.autostart.judge import checks, preconditions, returned, serving
from aya_lib.operations.autostart.look import again, look
from aya_lib.operations.autostart.plan import kill, leave, plan

__all__ = ["again", "checks", "kill", "leave", "look", "look_site", "plan", "preconditions", "returned", "serving"]
