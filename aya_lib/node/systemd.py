"""Linux: services are systemd units, seen by ``systemctl show``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from aya_lib.node.shell import WRITE, Output, Shell
from aya_lib.node.supervisor import ServiceAction, ServiceState

DISABLED = (
    "# Written by AYA: the service is disabled, so it is not started again after it was killed either.\n[Service]\nRestart=no\n"
)
PROPERTIES = ("LoadState", "ActiveState", "SubState", "MainPID", "Result", "ExecMainStatus", "ExecMainStartTimestamp")


@dataclass(frozen=True)
class Systemd:
    """``units`` are unit names, with or without ``.service``."""

    shell: Shell
    units: Mapping[str, str]
    sudo: bool = False

    def state(self, service: str) -> ServiceState:
        words = ["systemctl", "show", self.units[service], f"--property={','.join(PROPERTIES)}", "--timestamp=unix"]
        return parse_show(self.shell.run(words).checked().stdout)

    def start(self, service: str) -> None:
        self._systemctl("start", service).checked()

    def stop(self, service: str) -> None:
        self._systemctl("stop", service).checked()

    def restart(self, service: str) -> None:
        self._systemctl("restart", service).checked()

    def enabled(self, service: str) -> bool | None:
        output = self.shell.run(["systemctl", "is-enabled", self.units[service]])
        return parse_enabled(output.stdout + output.stderr)

    def enable(self, service: str) -> None:
        self._restarts(service, True)
        self._systemctl("enable", service).checked()

    def disable(self, service: str) -> None:
        """``systemctl disable`` alone would leave ``Restart=`` as it is: a drop-in takes that away."""
        if self.enabled(service) is not None:
            self._systemctl("disable", service).checked()
        self._restarts(service, False)

    def describe(self, action: ServiceAction, service: str) -> str:
        command = " ".join([*self._prefix, "systemctl", action, self.units[service]])
        also = action == "disable" and ".timer.d/" not in self._drop_in(service)
        return f"{command} (and Restart=no in {self._drop_in(service)})" if also else command

    @property
    def _prefix(self) -> list[str]:
        return ["sudo", "-n"] if self.sudo else []

    def _drop_in(self, service: str) -> str:
        unit = self.units[service]
        return f"/etc/systemd/system/{unit if unit.endswith(('.service', '.timer')) else f'{unit}.service'}.d/aya-disabled.conf"

    def _restarts(self, service: str, restart: bool) -> None:
        """Take the drop-in away, or put it there."""
        path = self._drop_in(service)
        if ".timer.d/" in path:
            return
        if self.shell.run(["ls", "--", path]).status == (2 if restart else 0):
            return
        if restart:
            self.shell.run([*self._prefix, "rm", "-f", "--", path]).checked()
        else:
            self.shell.run([*self._prefix, "mkdir", "-p", "--", path.rpartition("/")[0]]).checked()
            self.shell.run([*self._prefix, "sh", "-c", WRITE, "sh", path, "0644"], stdin=DISABLED).checked()
        self.shell.run([*self._prefix, "systemctl", "daemon-reload"], timeout_s=90).checked()

    def _systemctl(self, action: ServiceAction, service: str) -> Output:
        return self.shell.run([*self._prefix, "systemctl", action, self.units[service]], timeout_s=90)


def parse_show(text: str) -> ServiceState:
    """Output of ``systemctl show --property=... --timestamp=unix``: one ``Name=value`` a line."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if values.get("LoadState") == "not-found":
        return ServiceState("stopped", detail="no such unit")
    active, sub = values.get("ActiveState", ""), values.get("SubState", "")
    pid = int(values.get("MainPID") or 0) or None
    if active in ("active", "reloading") and (pid or sub == "waiting"):  # waiting: a timer, which has no process
        return ServiceState("running", pid, _since(values.get("ExecMainStartTimestamp", "")))
    if active == "failed" or sub == "auto-restart":
        why = f"{values.get('Result', 'no result')}, exit status {values.get('ExecMainStatus', 'unknown')}"
        return ServiceState("failed", detail=f"{sub}: {why}")
    return ServiceState("stopped", detail=f"{active} ({sub})")


def parse_enabled(text: str) -> bool | None:
    """Output of ``systemctl is-enabled``. Until the next boot only is not enabled; static or generated: cannot be told."""
    words = text.split()
    known = {"enabled": True, "disabled": False, "enabled-runtime": False, "masked": False, "masked-runtime": False}
    return known.get(words[0]) if words else None


def _since(stamp: str) -> datetime | None:
    return datetime.fromtimestamp(int(stamp[1:]), UTC) if stamp.startswith("@") else None
