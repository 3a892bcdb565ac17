"""Linux: services are systemd units, seen by ``systemctl show``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from aya_lib.node.listeners import remote_listener
from aya_lib.node.shell import Output, Shell
from aya_lib.node.supervisor import Action, Listener, ServiceState

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

    def describe(self, action: Action, service: str) -> str:
        return " ".join([*self._prefix, "systemctl", action, self.units[service]])

    def listener(self, port: int) -> Listener | None:
        return remote_listener(self.shell, port)

    @property
    def _prefix(self) -> list[str]:
        return ["sudo", "-n"] if self.sudo else []

    def _systemctl(self, action: Action, service: str) -> Output:
        return self.shell.run([*self._prefix, "systemctl", action, self.units[service]], timeout_s=90)


def parse_show(text: str) -> ServiceState:
    """Output of ``systemctl show --property=... --timestamp=unix``: one ``Name=value`` a line."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if values.get("LoadState") == "not-found":
        return ServiceState("stopped", detail="no such unit")
    active, sub = values.get("ActiveState", ""), values.get("SubState", "")
    pid = int(values.get("MainPID") or 0) or None
    if active in ("active", "reloading") and pid:
        return ServiceState("running", pid, _since(values.get("ExecMainStartTimestamp", "")))
    if active == "failed" or sub == "auto-restart":
        why = f"{values.get('Result', 'no result')}, exit status {values.get('ExecMainStatus', 'unknown')}"
        return ServiceState("failed", detail=f"{sub}: {why}")
    return ServiceState("stopped", detail=f"{active} ({sub})")


def _since(stamp: str) -> datetime | None:
    return datetime.fromtimestamp(int(stamp[1:]), UTC) if stamp.startswith("@") else None
