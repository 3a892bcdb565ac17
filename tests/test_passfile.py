"""A password file is read by the rules of libpq: first line that fits, stars, escapes, and never when others may read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aya_lib.secrets import from_passfile

FIELDS = ("air.example", "5432", "aya_rag", "postgres")


@pytest.mark.parametrize(
    ("text", "password"),
    [
        ("air.example:5432:aya_rag:postgres:secret", "secret"),
        ("*:*:*:postgres:secret", "secret"),
        ("*:*:*:other:no\n*:*:*:postgres:first\n*:*:*:postgres:second", "first"),
        ("# air.example:5432:aya_rag:postgres:no\nair.example:*:aya_rag:postgres:yes", "yes"),
        (r"*:*:*:postgres:with\:colon\\and backslash", r"with:colon\and backslash"),
        ("air.example:5433:aya_rag:postgres:other port", None),
        ("air.example:5432", None),
        ("", None),
    ],
)
def test_the_first_line_that_fits_counts(tmp_path: Path, text: str, password: str | None) -> None:
    path = tmp_path / "pgpass"
    path.write_text(text)
    path.chmod(0o600)
    found = from_passfile(path, FIELDS)
    assert (found.reveal() if found else None) == password


def test_a_file_that_others_may_read_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    path.write_text("*:*:*:postgres:secret")
    path.chmod(0o644)
    assert from_passfile(path, FIELDS) is None
    assert from_passfile(tmp_path / "missing", FIELDS) is None
