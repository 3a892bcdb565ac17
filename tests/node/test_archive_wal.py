"""The archive_command: identical 0, different 1, else copied whole or not at all, killed at whatever point."""

from __future__ import annotations

import ast
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aya_lib.node import archive_wal

PROGRAM = Path(archive_wal.__file__)
SEGMENT = "000000010000000000000007"
NAMES = [SEGMENT, f"{SEGMENT}.partial", f"{SEGMENT}.00000028.backup", "00000002.history"]
SIZE = 2 * 1024 * 1024 + 5
# Runs the program and kills it with SIGKILL just before its n-th call that touches a file; prints how many there were.
KILLER = """
import os, signal, sys
program, at = sys.argv[1], int(sys.argv[2])
calls = 0
def counted(function):
    def call(*words, **options):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*words, **options)
    return call
sys.argv = sys.argv[2:]
code = compile(open(program).read(), program, 'exec')
for name in ('open', 'write', 'read', 'fsync', 'rename', 'unlink', 'ftruncate', 'close', 'fstat', 'stat'):
    setattr(os, name, counted(getattr(os, name)))
try:
    exec(code, {'__name__': '__main__', '__file__': program})
finally:
    sys.stdout.write(str(calls))
"""


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    path = tmp_path / "wal"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.mkdir()
    return path


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=30)


def into(store: Path, source: Path, name: str = SEGMENT, *options: str) -> subprocess.CompletedProcess[str]:
    return run("--into", store, *options, source, name)


def out_of(store: Path, target: Path, name: str = SEGMENT, *options: str) -> subprocess.CompletedProcess[str]:
    return run("--from", store, *options, name, target)


def holds(store: Path, source: Path, name: str = SEGMENT) -> bool:
    """Whether this is all that is in the archive."""
    return [path.name for path in store.iterdir()] == [name] and (store / name).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_every_kind_goes_in_and_comes_back_the_same(wal: Path, store: Path, tmp_path: Path, name: str) -> None:
    assert into(store, wal, name).returncode == 0
    assert holds(store, wal, name)
    assert out_of(store, tmp_path / "back", name).returncode == 0
    assert (tmp_path / "back").read_bytes() == wal.read_bytes()


def test_an_identical_file_is_success_and_a_different_one_is_refused_and_left_alone(wal: Path, store: Path) -> None:
    into(store, wal)
    before = (store / SEGMENT).stat()
    assert into(store, wal).returncode == 0
    other = wal.with_name("other")
    content = bytearray(wal.read_bytes())
    content[1_500_000] ^= 1
    other.write_bytes(content)
    refused = into(store, other)
    assert refused.returncode == 1
    assert f"{store / SEGMENT} is another file (from byte 1500000 on) and is left as it is" in refused.stderr
    other.write_bytes(content[:-1])
    assert "is another file (2097157 bytes, not 2097156)" in into(store, other).stderr
    after = (store / SEGMENT).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert holds(store, wal)


def test_killed_before_any_of_its_steps_it_leaves_no_half_file_and_the_next_run_finishes(wal: Path, store: Path) -> None:
    reached = set()
    for at in range(1, 200):
        words = [sys.executable, "-c", KILLER, str(PROGRAM), str(at), "--into", str(store), str(wal), SEGMENT]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
        left = frozenset(path.name for path in store.iterdir())
        if SEGMENT in left:
            assert (store / SEGMENT).read_bytes() == wal.read_bytes()
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        reached.add(left)
        assert into(store, wal).returncode == 0
        assert holds(store, wal)
        (store / SEGMENT).unlink()
    else:
        pytest.fail("it never came to its end")
    # It was killed with nothing there, with the hidden file there, and with the final one there.
    assert reached == {frozenset(), frozenset({f".{SEGMENT}.archiving"}), frozenset({SEGMENT})}


def test_killed_from_outside_while_it_copies_a_large_file(store: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    words = [sys.executable, "-I", str(PROGRAM), "--into", str(store), str(large), SEGMENT]
    hidden = store / f".{SEGMENT}.archiving"
    process = subprocess.Popen(words)
    while not (hidden.exists() and hidden.stat().st_size) and process.poll() is None:
        time.sleep(0.0005)
    process.kill()
    process.wait()
    assert not (store / SEGMENT).exists() or holds(store, large)
    assert into(store, large).returncode == 0
    assert holds(store, large)


def test_runs_at_once_agree_on_one_file(wal: Path, store: Path, tmp_path: Path) -> None:
    for _ in range(5):
        with ThreadPoolExecutor(6) as pool:
            done = list(pool.map(lambda _: into(store, wal), range(6)))
        assert [one.returncode for one in done] == [0] * 6, [one.stderr for one in done]
        assert holds(store, wal)
        (store / SEGMENT).unlink()


def test_of_runs_at_once_with_different_content_one_wins_and_the_others_are_refused(store: Path, tmp_path: Path) -> None:
    sources = [tmp_path / f"wal{n}" for n in range(4)]
    for source in sources:
        source.write_bytes(os.urandom(SIZE))
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda source: into(store, source), sources))
        assert sorted(one.returncode for one in done) == [0, 1, 1, 1], [one.stderr for one in done]
        winner = sources[[one.returncode for one in done].index(0)]
        assert holds(store, winner)
        (store / SEGMENT).unlink()


def test_a_run_that_is_overtaken_between_opening_and_locking_begins_again(
    wal: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it opened as the hidden file has become the archived one by then: it must not write into that."""
    real, calls = fcntl.flock, []

    def overtaken(descriptor: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            assert into(store, wal).returncode == 0
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    archive_wal.archive(str(store), str(wal), SEGMENT, 5)
    assert len(calls) == 2
    assert holds(store, wal)


def test_a_run_that_was_frozen_holds_up_the_next_only_for_its_deadline(wal: Path, store: Path) -> None:
    hidden = store / f".{SEGMENT}.archiving"
    hold = f"import fcntl, sys; file = open({str(hidden)!r}, 'w'); fcntl.flock(file, 2); print(flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    refused = into(store, wal, SEGMENT, "--within", "0.2")
    holder.kill()
    holder.wait()
    assert (refused.returncode, "another run has been writing" in refused.stderr) == (1, True)
    assert not (store / SEGMENT).exists()
    hidden.write_bytes(b"x" * (SIZE + 1000))  # a longer leftover of a killed run is replaced
    assert into(store, wal).returncode == 0
    assert holds(store, wal)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path]).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_one_line_and_nothing_is_left(wal: Path, disk: Path) -> None:
    refused = into(disk, wal)
    assert (refused.returncode, refused.stderr) == (1, "archive_wal: copying: No space left on device\n")
    assert list(disk.iterdir()) == []
    wal.write_bytes(b"small")
    assert into(disk, wal).returncode == 0


def test_an_archive_that_is_not_mounted_is_not_made(wal: Path, tmp_path: Path) -> None:
    refused = into(tmp_path / "absent", wal)
    assert refused.returncode == 1
    assert "absent" in refused.stderr
    assert "No such file or directory" in refused.stderr
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("name", ["../evil", "postgresql.conf", "000000010000000000000007.gz", "", "00000001000000000000000g"])
def test_only_the_names_of_wal_files_are_taken(wal: Path, store: Path, name: str) -> None:
    assert into(store, wal, name).returncode == 2
    assert out_of(store, store.parent / "back", name).returncode == 2
    assert list(store.iterdir()) == []


def test_a_file_that_is_not_there_is_1_without_a_word(store: Path, tmp_path: Path) -> None:
    missing = out_of(store, tmp_path / "back")
    assert (missing.returncode, missing.stderr) == (1, "")
    assert not (tmp_path / "back").exists()
    assert "absent" in out_of(tmp_path / "absent", tmp_path / "back").stderr


def test_an_archive_that_hangs_is_1_and_not_a_hang(store: Path, tmp_path: Path) -> None:
    os.mkfifo(store / SEGMENT)  # whoever opens it waits for a writer, for ever
    hung = out_of(store, tmp_path / "back", SEGMENT, "--within", "0.3")
    assert hung.returncode == 1
    assert f"no answer from {store} within 0.3 s" in hung.stderr
    assert not (tmp_path / "back").exists()


def test_it_needs_nothing_but_the_standard_library_of_python_3_9() -> None:
    tree = ast.parse(PROGRAM.read_text(), feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names
    assert modules == {"__future__"}
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))
