"""What a commit waits for: what the runbooks replication_mode and switchback call, in the order in which they do."""

from aya_lib.cluster.canary import commits
from aya_lib.operations.replication_mode.judge import applied, preconditions, reached
from aya_lib.operations.replication_mode.look import look, request
from aya_lib.operations.replication_mode.plan import plan

__all__ = ["applied", "commits", "look", "plan", "preconditions", "reached", "request"]
