"""A run of a runbook: ``from aya_lib.runbook import Runbook`` is what every notebook starts with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aya_lib.runbook.book import Runbook

__all__ = ["Runbook"]


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for: the runner and the list of runs need neither PostgreSQL's driver nor the site's nodes."""
    if name != "Runbook":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aya_lib.runbook.book import Runbook

    return Runbook
