"""Copies of backups at other places: whole or not there, read back, and opened by the private key alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyrage
import pytest
import zstandard
from real_sshd import client, sshd

from aya_lib.backup import copies, places, sealed
from aya_lib.errors import AyaError
from aya_lib.node import wait
from aya_lib.site import Backup, BackupCopy, Ssh

SEGMENTS = [f"0000000100000000000000{n:02X}" for n in (2, 3)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """As a keeper's, with a full and an incremental backup, two segments, and one that is being written."""
    where = tmp_path / "repository"
    for label, parent in (("full", None), ("incremental", "full")):
        folder = where / "backups" / label
        (folder / "data" / "pg_tblspc").mkdir(parents=True)
        (folder / "tablespaces" / "123").mkdir(parents=True)
        (folder / "data" / "pg_tblspc" / "123").symlink_to(folder / "tablespaces" / "123")
        (folder / "tablespaces" / "123" / "rows").write_text(f"{label} rows")
        (folder / "data" / "PG_VERSION").write_text("18\n")
        (folder / "data" / "rows").write_bytes(os.urandom(300_000))
        (folder / "backup.json").write_text(json.dumps(record(label, parent, 1 if parent else 0, 0x30 if parent else 0x20)))
    (where / "wal" / "before-gap").mkdir(parents=True)
    for name in (*SEGMENTS, "00000002.history", f"{SEGMENTS[1]}.partial"):
        (where / "wal" / name).write_bytes(name.encode() * 1000)
    (where / "repository.json").write_text('{"system_identifier": "7", "segment_bytes": 16777216}')
    return where


def record(label: str, parent: str | None, day: int, start: int) -> dict[str, Any]:
    """As of a backup that ended on a day of January and starts at so many 16ths of a segment."""
    return {
        "label": label,
        "parent": parent,
        "ended": f"2026-01-{day + 1:02}T03:00:00+00:00",
        "start": {"lsn": f"0/{start << 20:X}"},
    }


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, Path, Path]:
    """A public key, the file of its private one, and one of another."""
    files = []
    for name in ("right", "wrong"):
        identity = pyrage.x25519.Identity.generate()
        files.append((identity, tmp_path / f"{name}.key"))
        files[-1][1].write_text(f"# made for a test\n{identity}\n")
    return str(files[0][0].to_public()), files[0][1], files[1][1]


def place(folder: Path) -> places.Folder:
    folder.mkdir(exist_ok=True)
    opened = places.open_place(BackupCopy(name="nas", path=str(folder)))
    assert isinstance(opened, places.Folder)
    return opened


def config(*recipients: str) -> Backup:
    return Backup(node="BETA", recipients=recipients)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_comes_back_is_what_went_there_and_only_the_private_key_opens_it(
    repository: Path, keys: tuple[str, Path, Path], tmp_path: Path
) -> None:
    public, right, wrong = keys
    nas = place(tmp_path / "nas")
    done = copies.copy(repository, config(public), nas, ["full", "incremental"], str)
    assert done.copied == ("full", "incremental", *SEGMENTS, "00000002.history")
    assert all(name.endswith((".age", ".json")) for name in nas.names())
    assert b"rows" not in (tmp_path / "nas" / "wal" / f"{SEGMENTS[0]}.zst.age").read_bytes()
    assert copies.copy(repository, config(public), nas, ["full", "incremental"], str).copied == ()

    with pytest.raises(AyaError, match="is encrypted"):
        copies.fetch(nas, "incremental", tmp_path / "none", None, str)
    with pytest.raises(AyaError, match="cannot be decrypted"):
        copies.fetch(nas, "incremental", tmp_path / "wrong", wrong, str)
    back = tmp_path / "back"
    copies.fetch(nas, "incremental", back, right, str)
    for unneeded in (f"{SEGMENTS[1]}.partial", SEGMENTS[0]):  # begun; from before the backup
        (repository / "wal" / unneeded).unlink()
    assert contents(back) == contents(repository)
    assert (
        back / "backups" / "full" / "data" / "pg_tblspc" / "123"
    ).readlink() == back / "backups" / "full" / "tablespaces" / "123"


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_copy_that_was_damaged_is_never_handed_out(
    repository: Path, keys: tuple[str, Path, Path], tmp_path: Path, encrypted: bool
) -> None:
    nas = place(tmp_path / "nas")
    copies.copy(repository, config(keys[0]) if encrypted else config(), nas, ["full"], str)
    for name in nas.names():
        if name.startswith("backups/") and name.endswith(".json"):
            continue
        file = tmp_path / "nas" / name
        before = file.read_bytes()
        for damaged in (before[: len(before) // 2], before[: len(before) // 2] + b"\0" + before[len(before) // 2 + 1 :]):
            file.write_bytes(damaged)
            if name == "repository.json":
                continue
            with pytest.raises(AyaError):
                copies.fetch(nas, "full", tmp_path / f"into-{len(os.listdir(tmp_path))}", keys[1], str)
        file.write_bytes(before)


def test_a_copy_goes_on_where_it_was_broken_off_and_forgets_what_the_repository_forgot(repository: Path, tmp_path: Path) -> None:
    nas = place(tmp_path / "nas")
    copies.copy(repository, config(), nas, ["full"], str)
    record = tmp_path / "nas" / "backups" / "full.json"
    record.unlink()  # as killed before the last step
    (tmp_path / "nas" / "wal" / f"{SEGMENTS[0]}.zst").rename(tmp_path / "nas" / "wal" / f"{SEGMENTS[0]}.zst.part")
    assert copies.look(nas).backups == {}
    assert copies.copy(repository, config(), nas, ["full"], str).copied == ("full", SEGMENTS[0])

    (repository / "backups" / "full").rename(tmp_path / "gone")
    (repository / "wal" / SEGMENTS[0]).unlink()
    assert copies.copy(repository, config(), nas, ["incremental"], str).removed == (), (
        "what a lost repository lacks stays elsewhere"
    )
    assert set(copies.look(nas).backups) == {"full", "incremental"}


def test_what_no_moment_of_the_window_needs_goes_and_never_what_another_stands_on(repository: Path, tmp_path: Path) -> None:
    nas = place(tmp_path / "nas")
    copies.copy(repository, config(), nas, ["full", "incremental"], str)
    for label, day in (("later", 9), ("last", 30)):
        folder = repository / "backups" / label
        folder.mkdir()
        (folder / "backup.json").write_text(json.dumps(record(label, None, day, 0x30)))
    assert copies.copy(repository, config(), nas, ["incremental", "later"], str).removed == ()
    assert copies.copy(repository, config(), nas, ["later", "last"], str).removed[:1] == ("backups/full.json",)
    (repository / "wal" / SEGMENTS[0]).unlink()
    removed = copies.copy(repository, config(), nas, ["later", "last"], str).removed
    assert f"wal/{SEGMENTS[0]}.zst" in removed
    assert f"wal/{SEGMENTS[1]}.zst" not in removed
    assert set(copies.look(nas).backups) == {"later", "last"}


def test_what_cannot_be_a_place_is_one_line(repository: Path, tmp_path: Path) -> None:
    nas = place(tmp_path / "nas")
    (tmp_path / "nas" / "repository.json").write_text('{"system_identifier": "8"}')
    with pytest.raises(AyaError, match="another cluster"):
        copies.copy(repository, config(), nas, ["full"], str)
    with pytest.raises(AyaError, match="nowhere"):
        copies.copy(repository, config(), places.open_place(BackupCopy(name="x", path=str(tmp_path / "nowhere"))), ["full"], str)
    with pytest.raises(AyaError, match="no public key"):
        copies.copy(repository, config("AGE-SECRET-KEY-1"), nas, ["full"], str)


def test_a_full_place_keeps_no_half_file(repository: Path, tmp_path: Path) -> None:
    small = place(tmp_path / "small")
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small.path]).returncode:
        pytest.skip("no file system of its own can be mounted here")
    try:
        with pytest.raises(AyaError, match="No space left"):
            copies.copy(repository, config(), small, ["full"], str)
        assert copies.look(small).backups == {}
    finally:
        subprocess.run(["umount", small.path], check=True)


def test_whoever_is_killed_in_the_middle_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    nas = place(tmp_path / "nas")
    script = (
        "import os, sys; from aya_lib.backup import places; from aya_lib.site import BackupCopy\n"
        "with places.sink(places.open_place(BackupCopy(name='nas', path=sys.argv[1])), 'wal/half') as stream:\n"
        "    stream.write(b'x' * 100_000); stream.flush(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, nas.path]).returncode == -9
    wait.until(lambda: [*(tmp_path / "nas").rglob("half*")], bool, node="nas", what="it arrives", deadline_s=30)
    assert nas.names() == {}


def test_a_place_behind_ssh(repository: Path, keys: tuple[str, Path, Path], tmp_path: Path, room: range) -> None:
    there = place(tmp_path / "there").path
    with sshd(tmp_path / "ssh", "127.0.0.1", room[-1]):
        configuration = client(tmp_path / "ssh", "config", "nas", "127.0.0.1", room[-1])
        nas = places.open_place(BackupCopy(name="nas", path=there, ssh=Ssh(host="nas", config=configuration)))
        copies.copy(repository, config(keys[0]), nas, ["full"], str)
        copies.fetch(nas, "full", tmp_path / "back", keys[1], str)
    assert contents(tmp_path / "back" / "backups" / "full") == contents(repository / "backups" / "full")


def test_an_archive_of_a_stranger_writes_nothing_outside(tmp_path: Path) -> None:
    link = tarfile.TarInfo("full/link")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    attacks: list[list[str | tarfile.TarInfo]] = [["../out"], ["/out"], [link, "full/link/out"]]
    for names in attacks:
        stream = io.BytesIO()
        packed = zstandard.ZstdCompressor().stream_writer(stream, closefd=False)
        with packed, tarfile.open(fileobj=packed, mode="w|") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name) if isinstance(name, str) else name)
        stream.seek(0)
        with pytest.raises(AyaError, match="no backup does"):
            sealed.unseal(stream, tmp_path / "into", [], sealed=False, folder=True)
    assert not (tmp_path / "out").exists()
