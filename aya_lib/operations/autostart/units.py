"""The files by which systemd or launchd starts a node's services: pure functions of the site.

PostgreSQL's unit asks ``aya guard`` first, and is passed over while its data directory carries a fence. What is secret stands
in one environment file on the node (mode 0600), which the units name and nobody copies. (systemd.service(5),
systemd.exec(5), launchd.plist(5).)
"""

from __future__ import annotations

import plistlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aya_lib.cluster.state import MARK
from aya_lib.secrets import variable
from aya_lib.site import NodeConfig, Site

HEADER = "Written by AYA (autostart); a change made here is lost at the next install."
SYSTEMD = Path("/etc/systemd/system")
LAUNCHD = Path("/Library/LaunchDaemons")
STATUS_EVERY_S = 300
RETRY_S = 10  # between two starts of a PostgreSQL that does not stay up, or that the guard refuses
STOP_S = 300  # for the checkpoint of an orderly stop


@dataclass(frozen=True)
class Unit:
    """One file of a service, world-readable and owned by root: nothing in it is secret."""

    service: str
    path: Path
    text: str


@dataclass(frozen=True)
class Home:
    """Where a node's units find things: the account of all its services, and absolute paths there."""

    site: Site
    name: str
    account: str

    @property
    def config(self) -> NodeConfig:
        return self.site.nodes[self.name]

    @property
    def data(self) -> Path:
        return self.site.path(self.config.postgresql.data_directory)

    @property
    def environment(self) -> Path:
        return Path("/etc/aya") / f"{self.site.name}.env"

    @property
    def postgres(self) -> list[str]:
        return [str(self.site.path(self.config.postgresql.bin_directory) / "postgres"), "-D", str(self.data)]

    @property
    def guard(self) -> list[str]:
        return self._aya("guard", node=True)

    @property
    def status(self) -> list[str]:
        return self._aya("status")

    @property
    def own(self) -> list[Own]:
        """Our own services that run all the time."""
        config, found = self.config, list[Own]()
        if config.embedding:
            serve = self._aya("serve", "embedding", node=True)
            found.append(Own("embedding", config.embedding.unit, "Embedding service", serve, pause_s=2))
        if config.role == "laptop":
            found.append(Own("sync", config.sync.unit, "Sync daemon", self._aya("serve", "sync"), pause_s=5))
        if self.site.backup and self.site.backup.node == self.name:
            serve = self._aya("serve", "wal", node=True)
            found.append(Own("wal", self.site.backup.unit, "Receiver of WAL", serve, pause_s=5))
        return found

    @property
    def libraries(self) -> str | None:
        path = self.config.postgresql.library_directory
        return str(self.site.path(path)) if path else None

    def _aya(self, *words: str, node: bool = False) -> list[str]:
        program = self.config.aya or Path(sys.executable).with_name("aya")
        return [str(program), *words, "--site", self.site.name, *(["--node", self.name] if node else [])]


@dataclass(frozen=True)
class Own:
    """One of our own services. ``pause_s``: before it is started again."""

    service: str
    unit: str
    title: str
    command: list[str]
    pause_s: int


def units(site: Site, name: str, account: str | None) -> tuple[Unit, ...]:
    """The files of a node's services; none for a lab's node, whose keeper plays that part, or while the account is not known."""
    home = Home(site, name, account or "")
    if not account or home.config.supervisor == "process":
        return ()
    return tuple(_systemd(home) if home.config.supervisor == "systemd" else _launchd(home))


def environment(site: Site, name: str) -> str:
    """A first environment file: names only. A person puts the values in on the node."""
    roles = (site.database.owner, site.database.application_role)
    lines = [
        f"# Secrets of AYA's services on {name}. Mode 0600, never copied. NAME=value, one a line, as a shell reads it.",
        "# A password that the account's ~/.pgpass has need not be here.",
        *(f"# {name}=" for name in sorted({variable(site.name, f"{role} password") for role in roles})),
    ]
    return "\n".join(lines) + "\n"


def _systemd(home: Home) -> Iterator[Unit]:
    where, config, at_boot = f"{home.name} of site {home.site.name}", home.config, [("WantedBy", "multi-user.target")]
    yield Unit(
        "postgresql",
        _service_file(config.postgresql.unit),
        _ini(
            Unit=[
                ("Description", f"PostgreSQL on {where}"),
                ("Wants", "network-online.target"),
                ("After", "network-online.target"),
                ("ConditionPathExists", "!" + _percent(str(home.data / MARK))),
                ("StartLimitIntervalSec", "0"),
            ],
            Service=[
                ("Type", "exec"),
                *_as(home),
                *([("Environment", _word(f"LD_LIBRARY_PATH={home.libraries}"))] if home.libraries else []),
                ("ExecStartPre", _line(home.guard)),
                ("ExecStart", _line(home.postgres)),
                ("ExecReload", "kill -HUP $MAINPID"),
                ("KillMode", "mixed"),
                ("KillSignal", "SIGINT"),
                ("TimeoutStopSec", str(STOP_S)),
                ("OOMScoreAdjust", "-900"),  # the postmaster; what it starts may be killed as any other process
                ("Environment", "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj PG_OOM_ADJUST_VALUE=0"),
                ("Restart", "on-failure"),
                ("RestartSec", str(RETRY_S)),
            ],
            Install=at_boot,
        ),
    )
    for own in home.own:
        title = [("Description", f"{own.title} on {where}"), ("After", "network.target"), ("StartLimitIntervalSec", "0")]
        service = [("Type", "exec"), *_as(home), ("ExecStart", _line(own.command))]
        service += [("Restart", "always"), ("RestartSec", str(own.pause_s))]
        yield Unit(own.service, _service_file(own.unit), _ini(Unit=title, Service=service, Install=at_boot))
    title = [("Description", f"Status of site {home.site.name}, seen from {home.name}")]
    often = [("OnBootSec", "60"), ("OnUnitActiveSec", str(STATUS_EVERY_S)), ("AccuracySec", "1s")]
    once = [("Type", "oneshot"), *_as(home), ("ExecStart", _line(home.status))]
    timer = _ini(Unit=title, Timer=often, Install=[("WantedBy", "timers.target")])
    yield Unit("status", SYSTEMD / "aya.status.service", _ini(Unit=title, Service=once))
    yield Unit("status", SYSTEMD / "aya.status.timer", timer)


def _as(home: Home) -> list[tuple[str, str]]:
    secrets = ("EnvironmentFile", f"-{_percent(str(home.environment))}")
    return [("User", home.account), ("Environment", _word(f"AYA_NODE={home.name}")), secrets, ("NoNewPrivileges", "yes")]


def _ini(**sections: list[tuple[str, str]]) -> str:
    parts = [f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in lines) for name, lines in sections.items()]
    return f"# {HEADER}\n" + "\n".join(parts)


def _service_file(unit: str) -> Path:
    return SYSTEMD / (unit if unit.endswith(".service") else f"{unit}.service")


def _line(words: list[str]) -> str:
    return " ".join(_word(word) for word in words)


def _word(word: str) -> str:
    """One word of a command line as systemd reads it."""
    escaped = _percent(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if any(sign in word for sign in " \t\"'\\;") else escaped


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _launchd(home: Home) -> Iterator[Unit]:
    fenced = shlex.quote(str(home.data / MARK))
    libraries = f"export LD_LIBRARY_PATH={shlex.quote(home.libraries)}\n" if home.libraries else ""
    # exec: launchd's process is then PostgreSQL itself. A refusal ends with 1, so it shows as failed and is asked again.
    script = f"if [ -e {fenced} ]; then echo {fenced} is there: not started >&2; exit 0; fi\n"
    script += f"{shlex.join(home.guard)} || exit 1\n{libraries}exec {shlex.join(home.postgres)}\n"
    kept = {"KeepAlive": {"SuccessfulExit": False}, "ThrottleInterval": RETRY_S, "ExitTimeOut": STOP_S}
    yield _plist(home, "postgresql", home.config.postgresql.unit, script, kept)
    for own in home.own:
        yield _plist(home, own.service, own.unit, f"exec {shlex.join(own.command)}\n", {"KeepAlive": True})
    often = {"StartInterval": STATUS_EVERY_S}
    yield _plist(home, "status", "aya.status", f"exec {shlex.join(home.status)}\n", often)


def _plist(home: Home, service: str, label: str, script: str, more: dict[str, Any]) -> Unit:
    secrets = shlex.quote(str(home.environment))
    content = {
        "Label": label,
        "ProgramArguments": ["/bin/sh", "-c", f"if [ -r {secrets} ]; then set -a; . {secrets}; set +a; fi\n{script}"],
        "UserName": home.account,
        # Without a locale PostgreSQL refuses to start on macOS. The node reaches its own services without ssh.
        "EnvironmentVariables": {"LC_ALL": "C", "AYA_NODE": home.name},
        "StandardOutPath": f"/var/log/{label}.log",
        "StandardErrorPath": f"/var/log/{label}.log",
        "RunAtLoad": True,
        **more,
    }
    text = plistlib.dumps(content, sort_keys=False).decode()
    head, mark, rest = text.partition("<plist")
    return Unit(service, LAUNCHD / f"{label}.plist", f"{head}<!-- {HEADER} -->\n{mark}{rest}")
