"""No secret and no path of one machine in any file of the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from aya_lib import settings

HOME = settings.home()
FILES = subprocess.run(["git", "ls-files"], cwd=HOME, capture_output=True, text=True, check=True).stdout.split("\n")
PATTERNS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n",
    "token": r"\b(ghp_\w{20,}|xox[abp]-\w{10,}|sk-[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16})\b",
    "password in a URL": r"\w+://\w+:(?!\*|hunter2|\[)[^\s@/'\"{]+@\w",
    "password file line": r"127\.0\.0\.1:\*:\*:\w+:[\w-]{20,}",
    "path of one machine": rf"{re.escape(str(HOME.parent))}/\w|/tmp/aya-|{re.escape(str(Path.home()))}/\w",
}


@pytest.mark.parametrize("what", PATTERNS)
def test_no_file_holds_a(what: str) -> None:
    found = [name for name in FILES if name and name != "tests/test_secrets_in_repo.py" and re.search(PATTERNS[what], text(name))]
    assert not found


def text(name: str) -> str:
    path = Path(HOME / name)
    try:
        return path.read_text() if path.is_file() else ""
    except UnicodeDecodeError:
        return ""
