"""The daemon's log is rotated: it never fills the laptop's disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from aya_lib.air import daemon


def test_the_log_is_rotated_and_the_oldest_part_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "LOG_BYTES", 2_000)
    path = tmp_path / "log" / "air-sync.log"
    before = list(daemon.log.handlers)
    daemon._log(path)
    try:
        for number in range(500):
            daemon.log.info("round %d", number)
    finally:
        for handler in [one for one in daemon.log.handlers if one not in before]:
            daemon.log.removeHandler(handler)
            handler.close()
    files = sorted(path.parent.iterdir())
    assert len(files) == daemon.LOGS + 1
    assert all(file.stat().st_size <= 2_000 for file in files)
    assert "round 499" in path.read_text()
    assert not any("round 0\n" in file.read_text() for file in files)
