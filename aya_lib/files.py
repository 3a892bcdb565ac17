"""The one way to write a file here: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, text: str, *, private: bool = False) -> None:
    """Write ``path`` so that a kill or a power cut leaves the old file or the new one. ``private``: only its owner may read it.

    The folder is made when it is not there. Raises :class:`OSError`; the old file stays then, and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}.new")
    staging.unlink(missing_ok=True)
    try:
        descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
