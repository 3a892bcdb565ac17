"""What keeps a node's services: launchd, systemd, or plain processes with PID files. One protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

Status = Literal["running", "stopped", "stale", "frozen", "failed"]
ServiceAction = Literal["start", "stop", "restart", "enable", "disable"]


@dataclass(frozen=True)
class ServiceState:
    """One service as its supervisor and the process table show it.

    running: a live process that is the service's own.  stopped: none, and none is claimed.
    stale: a PID file claims a process that is gone or is another one.  frozen: alive, but stopped by a signal.
    failed: the supervisor gave it up (``detail`` says why), or does not know it.
    """

    status: Status
    pid: int | None = None
    since: datetime | None = None
    detail: str = ""

    def __str__(self) -> str:
        known = f"{self.status}, PID {self.pid}" if self.pid else self.status
        return f"{known}: {self.detail}" if self.detail else known


@dataclass(frozen=True)
class Listener:
    """The process that listens on a TCP port."""

    port: int
    pid: int | None
    command: str


class Supervisor(Protocol):
    """Services are named as in site.yaml: ``postgresql``, ``embedding``. Each call looks or acts anew."""

    @property
    def units(self) -> Mapping[str, str]: ...

    def state(self, service: str) -> ServiceState: ...

    def start(self, service: str) -> None:
        """Start it and return when the supervisor has done its part; harmless when it runs already."""

    def stop(self, service: str) -> None:
        """Stop it in an orderly way; harmless when it does not run."""

    def restart(self, service: str) -> None: ...

    def enabled(self, service: str) -> bool | None:
        """Whether it starts by itself: at boot, and after it was killed. None: no unit is installed, or it cannot be told."""

    def enable(self, service: str) -> None:
        """Let it start by itself from now on; what was stopped is not started. Harmless when it is enabled."""

    def disable(self, service: str) -> None:
        """See that it does not start by itself, at boot or after it was killed; what runs goes on. Harmless twice.

        To fence: ``disable``, then ``stop``. In the other order the supervisor could start it again in between.
        """

    def describe(self, action: ServiceAction, service: str) -> str:
        """The command that the action amounts to, as a person would type it."""
