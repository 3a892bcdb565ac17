"""Secrets: found by lookup, never written down. A secret prints as stars."""

from __future__ import annotations

import os
import re
from pathlib import Path

from aya_lib.errors import SecretMissing


class Secret:
    """A value that hides itself: ``str``, ``repr`` and formatting give stars; :meth:`reveal` gives the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "********"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[type, ...]:
        raise TypeError("a secret is not pickled")


def variable(site: str, name: str) -> str:
    """The environment variable that may hold the secret: such as ``AYA_LAB_AYA_USER_PASSWORD``."""
    return "AYA_" + re.sub(r"\W+", "_", f"{site}_{name}").upper()


def find(site: str, name: str) -> Secret | None:
    """The secret called ``name`` for a site, from the environment or the system keyring; None when neither has it."""
    value = os.environ.get(variable(site, name))
    if value:
        return Secret(value)
    import keyring
    from keyring.errors import KeyringError

    try:
        value = keyring.get_password(f"aya/{site}", name)
    except (KeyringError, RuntimeError):
        return None
    return Secret(value) if value else None


def from_passfile(path: Path, fields: tuple[str, str, str, str]) -> Secret | None:
    """The password for (host, port, database, role) in a libpq password file, by libpq's rules: the first line that fits counts,
    ``*`` fits everything, and a file that others may read is passed over. (PostgreSQL's manual, "The Password File".)"""
    try:
        if path.stat().st_mode & 0o077:
            return None
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        parts = [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"((?:[^:\\]|\\.)*)(?::|$)", line)]
        if not line.startswith("#") and len(parts) > 4 and all(p in ("*", f) for p, f in zip(parts[:4], fields, strict=True)):
            return Secret(parts[4])
    return None


def lookup(site: str, name: str) -> Secret:
    """As :func:`find`; raises :class:`SecretMissing` that names both places."""
    secret = find(site, name)
    if secret is None:
        raise SecretMissing(
            f"no secret '{name}' for site {site}",
            hint=f"Set {variable(site, name)}, or store it: keyring set aya/{site} '{name}'",
        )
    return secret


def mask(text: str) -> str:
    """``text`` with the password in any connection string or URL replaced by stars."""
    text = re.sub(r"(\w+://[^\s:/@]*):[^\s@]*@", r"\1:********@", text)
    return re.sub(r"(?i)(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)", r"\1********", text)
