"""macOS: services are LaunchDaemons of the system domain. (launchctl(1): bootstrap, bootout, kickstart, print.)"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aya_lib.node.shell import Output, Shell
from aya_lib.node.supervisor import ServiceAction, ServiceState

NOT_LOADED = 113  # launchctl: Could not find service


@dataclass(frozen=True)
class Launchd:
    """``units`` are labels; the property list of each is /Library/LaunchDaemons/<label>.plist."""

    shell: Shell
    units: Mapping[str, str]
    sudo: bool = False

    def state(self, service: str) -> ServiceState:
        output = self._launchctl("print", self._target(service))
        if output.status == NOT_LOADED or "Could not find service" in output.stderr + output.stdout:
            return ServiceState("stopped", detail="not loaded")
        return parse_print(output.checked().stdout)

    def start(self, service: str) -> None:
        if self.state(service).detail == "not loaded":
            self._launchctl("bootstrap", "system", self._plist(service)).checked()
        if self.state(service).status != "running":
            self._launchctl("kickstart", self._target(service)).checked()

    def stop(self, service: str) -> None:
        """launchd says SIGTERM, by which PostgreSQL waits for its clients to go: SIGINT before it makes the stop fast."""
        if self.state(service).detail != "not loaded":
            if service == "postgresql":
                self._launchctl("kill", "SIGINT", self._target(service))
            self._launchctl("bootout", self._target(service)).checked()

    def restart(self, service: str) -> None:
        if self.state(service).detail == "not loaded":
            return self.start(service)
        self._launchctl("kickstart", "-k", self._target(service)).checked()
        return None

    def enabled(self, service: str) -> bool | None:
        """Enabled: its property list is there, and launchd was not told to pass it by (``launchctl print-disabled``)."""
        if self.shell.run(["ls", "--", self._plist(service)]).status != 0:
            return None
        return self.units[service] not in parse_disabled(self._launchctl("print-disabled", "system").checked().stdout)

    def enable(self, service: str) -> None:
        self._launchctl("enable", self._target(service)).checked()

    def disable(self, service: str) -> None:
        """Holds from the next load on: what is loaded is still kept alive until ``stop`` unloads it."""
        self._launchctl("disable", self._target(service)).checked()

    def describe(self, action: ServiceAction, service: str) -> str:
        words = {
            "start": ["bootstrap", "system", self._plist(service)],
            "stop": ["bootout", self._target(service)],
            "restart": ["kickstart", "-k", self._target(service)],
            "enable": ["enable", self._target(service)],
            "disable": ["disable", self._target(service)],
        }[action]
        return " ".join([*self._prefix, "launchctl", *words])

    @property
    def _prefix(self) -> list[str]:
        return ["sudo", "-n"] if self.sudo else []

    def _launchctl(self, *arguments: str) -> Output:
        return self.shell.run([*self._prefix, "launchctl", *arguments], timeout_s=30)

    def _target(self, service: str) -> str:
        return f"system/{self.units[service]}"

    def _plist(self, service: str) -> str:
        return f"/Library/LaunchDaemons/{self.units[service]}.plist"


def parse_print(text: str) -> ServiceState:
    """Output of ``launchctl print system/<label>``, a tree of ``key = value``; only its top level counts.

    Loaded, not running and last ended with a status other than 0 (or by a signal) reads as *failed*: launchd is waiting to
    start it again, or has given up.
    """
    top = dict(re.findall(r"^\t([a-z][a-z ]*?) = (.+)$", text, re.MULTILINE))
    pid = int(top["pid"]) if "pid" in top else None
    if top.get("state") == "running":
        return ServiceState("running", pid)
    code, ended_by = top.get("last exit code", ""), top.get("last terminating signal", "")
    if ended_by:
        return ServiceState("failed", detail=f"{top.get('state', 'no state')}, last ended by signal {ended_by}")
    if code and not code.startswith(("0", "(never exited)")):
        return ServiceState("failed", detail=f"{top.get('state', 'no state')}, last exit code {code}")
    return ServiceState("stopped", detail=top.get("state", "no state"))


def parse_disabled(text: str) -> set[str]:
    """Labels that ``launchctl print-disabled`` says are disabled; older systems say ``true`` for it."""
    return set(re.findall(r'^\s*"([^"]+)" => (?:disabled|true)$', text, re.MULTILINE))
