"""A folder to work in: the notebooks, the sites, and a place for runs, laid out from what comes with the package."""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import dataclass
from pathlib import Path

from aya_lib import __version__, settings
from aya_lib.errors import UsageError

PARTS = ("notebooks/*.ipynb", "parameters/*/site.yaml", "*.md")


@dataclass(frozen=True)
class Layout:
    """``made``: files that were written; ``kept``: those that were there and are not as shipped."""

    folder: Path
    made: tuple[Path, ...]
    kept: tuple[Path, ...]


def lay_out(folder: Path) -> Layout:
    """Make a folder to work in, or complete one. Nothing that is there is written over. :class:`UsageError`: it is no folder."""
    target, made, kept = folder.expanduser().absolute(), [], []
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is no folder")
    for source in [path for part in PARTS for path in sorted(settings.shipped().glob(part))]:
        place = target / source.relative_to(settings.shipped())
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
            made.append(place)
        elif not filecmp.cmp(source, place, shallow=False):
            kept.append(place)
    (target / settings.MARKER).write_text(f"{__version__}\n", encoding="utf-8")
    return Layout(target, tuple(made), tuple(kept))
