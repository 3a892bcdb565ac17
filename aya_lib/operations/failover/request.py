"""What somebody asks of a failover."""

from __future__ import annotations

import getpass
from dataclasses import dataclass

from aya_lib.errors import UsageError
from aya_lib.operations.failover.fencing import Asked
from aya_lib.site import Site


@dataclass(frozen=True)
class Request:
    """``new`` is to be the primary in place of ``old``. ``emergency``: ``old`` is given up, not handed over. ``take_back``: a
    failover that was broken off before the promotion is undone instead. ``by``: who asks."""

    old: str
    new: str
    emergency: bool = False
    fence: Asked = "auto"
    confirmed_by: str = ""
    by: str = ""
    take_back: bool = False


def request(
    site: Site,
    *,
    to: str = "",
    emergency: bool = False,
    fence: Asked = "auto",
    confirmed_by: str = "",
    by: str = "",
    take_back: bool = False,
) -> Request:
    """What the runbook's parameters ask for; ``to`` empty: the site's standby; ``by`` empty: the user here.

    :class:`UsageError` for a node that cannot be the primary, and for a fence that only an emergency may choose.
    """
    new = to or site.standby
    if new not in site.pair:
        raise UsageError(f"to: found '{to}', allowed are {' and '.join(site.pair)}, the two nodes that replicate")
    if not emergency and fence not in ("auto", "stopped"):
        raise UsageError(f"fence: '{fence}' is for an emergency; a planned failover always stops the old primary")
    old = next(name for name in site.pair if name != new)
    return Request(old, new, emergency, fence, confirmed_by, by or getpass.getuser(), take_back)
