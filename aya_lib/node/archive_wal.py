"""PostgreSQL's archive_command and restore_command: one file, the standard library only, Python 3.9 or later.

::

    archive_command = 'python3 archive_wal.py --into DIR %p %f'
    restore_command = 'python3 archive_wal.py --from DIR %f %p'

It is copied to the nodes and imports nothing of this project. *Into*: an identical file that is there already gives 0, a
different one gives 1 and stays as it is; otherwise the file is copied under a hidden name, synced, renamed, and the folder is
synced: killed at any point, no half file stands under the final name, and the next run uses the hidden file again. *From*:
a file that is not there gives 1, and so does an archive that does not answer in time: a standby then asks its primary.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import re
import signal
import sys
import time

NAME = re.compile(r"[0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history")
BLOCK = 1 << 20
POLL_S = 0.02
FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone leaves the data in the drive's cache


class Refused(Exception):
    """It was not done; the message says why."""


def archive(directory: str, source: str, name: str, within_s: float) -> None:
    """Have ``source`` in the archive as ``name``; :class:`Refused` when another file has that name."""
    target = os.path.join(directory, name)
    hidden = os.path.join(directory, f".{name}.archiving")
    wal = os.open(source, os.O_RDONLY)
    copy = _locked(hidden, within_s)
    try:
        if os.path.lexists(target):
            _same(wal, target)
            os.unlink(hidden)
        else:
            os.ftruncate(copy, 0)
            _copy(wal, copy)
            _sync(copy)
            os.rename(hidden, target)
    except (OSError, Refused):
        with contextlib.suppress(OSError):
            os.unlink(hidden)
        raise
    _sync_folder(directory)


def fetch(directory: str, name: str, target: str, within_s: float) -> None:
    """Copy a file out of the archive, within a deadline that holds also where the file system itself hangs."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(_status(lambda: _fetch(directory, name, target, parent)))
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, within_s)
    try:
        _, status = os.waitpid(child, 0)
    except TimeoutError:
        os.kill(child, signal.SIGKILL)  # not waited for: a process that hangs in the kernel does not even die
        raise Refused(f"no answer from {directory} within {within_s:g} s") from None
    if status:
        raise Refused("")  # the child has said why


def _fetch(directory: str, name: str, target: str, parent: int) -> None:
    try:
        wal = os.open(os.path.join(directory, name), os.O_RDONLY)
    except FileNotFoundError:
        os.stat(directory)  # an archive that is not there is worth a line; a file that is not there is everyday life
        raise Refused("") from None
    beside = target + ".fetching"
    copy = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    _copy(wal, copy)
    if os.getppid() != parent:
        raise Refused("the server no longer waits for it")
    os.rename(beside, target)


def _locked(path: str, within_s: float) -> int:
    """The file opened and locked for us alone. Two runs for one name take turns; the lock of a killed run is free."""
    end = time.monotonic() + within_s
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The run before may have renamed or removed it while we opened it: then what we hold is not the hidden file.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                    return descriptor
        except BlockingIOError:
            if time.monotonic() >= end:
                raise Refused(f"another run has been writing {path} for {within_s:g} s") from None
            time.sleep(POLL_S)
        os.close(descriptor)


def _same(wal: int, target: str) -> None:
    """Return when the archived file has the same content, and is safe on disk."""
    there = os.open(target, os.O_RDONLY)
    sizes = os.fstat(wal).st_size, os.fstat(there).st_size
    if sizes[0] != sizes[1]:
        raise Refused(f"{target} is another file ({sizes[1]} bytes, not {sizes[0]}) and is left as it is")
    at = 0
    while True:
        block = os.read(wal, BLOCK)
        other = os.read(there, len(block)) if block else b""
        if block != other:
            at += next(n for n in range(len(block)) if block[n : n + 1] != other[n : n + 1])
            raise Refused(f"{target} is another file (from byte {at} on) and is left as it is")
        if not block:
            break
        at += len(block)
    _sync(there)


def _copy(source: int, target: int) -> None:
    expected, written = os.fstat(source).st_size, 0
    while True:
        block = os.read(source, BLOCK)
        if not block:
            break
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]
        written += len(block)
    if written != expected:
        raise Refused(f"read {written} of {expected} bytes")


def _sync(descriptor: int) -> None:
    if FULL_SYNC is not None:
        with contextlib.suppress(OSError):  # a network share knows it not
            fcntl.fcntl(descriptor, FULL_SYNC)
            return
    os.fsync(descriptor)


def _sync_folder(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network shares cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def _late(number, frame):  # type: ignore[no-untyped-def]
    raise TimeoutError


def _status(act) -> int:  # type: ignore[no-untyped-def]
    """0 when it was done; else 1 and one line, which PostgreSQL puts into its log."""
    try:
        act()
    except Refused as refused:
        if str(refused):
            print(f"archive_wal: {refused}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(f"archive_wal: {error.filename or 'copying'}: {error.strerror}", file=sys.stderr, flush=True)
        return 1
    return 0


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="archive_wal", description="Put a WAL file into an archive, or get one back.")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--into", metavar="DIR", help="archive: then the file's path (%%p) and its name (%%f)")
    way.add_argument("--from", metavar="DIR", dest="out_of", help="restore: then the file's name (%%f) and where to put it (%%p)")
    parser.add_argument("--within", type=float, default=60, metavar="SECONDS", help="give up after this long (default: 60)")
    parser.add_argument("first")
    parser.add_argument("second")
    given = parser.parse_args(words)
    name = given.second if given.into else given.first
    if not NAME.fullmatch(name):
        parser.error(f"'{name}' is not the name of a WAL, history or backup file")
    if given.into:
        return _status(lambda: archive(given.into, given.first, name, given.within))
    return _status(lambda: fetch(given.out_of, name, given.second, given.within))


if __name__ == "__main__":
    sys.exit(main())
