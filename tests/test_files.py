"""A file is written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aya_lib import files


def test_the_folder_is_made_and_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    files.write(path, "first")
    files.write(path, "größer\n")
    assert path.read_text(encoding="utf-8") == "größer\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("private", "mode"), [(True, 0o600), (False, 0o644)])
def test_what_is_private_only_its_owner_may_read(tmp_path: Path, private: bool, mode: int) -> None:
    before = os.umask(0o022)
    try:
        path = tmp_path / "file"
        path.write_text("open to everybody")
        path.chmod(0o666)
        files.write(path, "new", private=private)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


def test_when_it_cannot_be_written_the_old_one_stays_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        files.write(path, "half of it \ud800")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    """Another process writes a long and a short text in turn while this one reads."""
    path = tmp_path / "file"
    files.write(path, "x" * 300_000)
    code = (
        "import sys; from pathlib import Path; from aya_lib import files\n"
        "for _ in range(40): files.write(Path(sys.argv[1]), 'y'); files.write(Path(sys.argv[1]), 'x' * 300_000)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])
    lengths = set()
    while process.poll() is None:
        lengths.add(len(path.read_bytes()))
    assert process.returncode == 0
    assert lengths <= {1, 300_000}
