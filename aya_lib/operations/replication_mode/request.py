"""What somebody asks of replication: the mode, who asks, and why."""

from __future__ import annotations

import getpass
from dataclasses import dataclass

from aya_lib.cluster.state import Mode
from aya_lib.site import Site


@dataclass(frozen=True)
class Request:
    """``by``: who asks, and ``why``. ``confirmed_by``: who made sure that a standby that cannot be seen was not promoted."""

    mode: Mode
    by: str = ""
    why: str = ""
    confirmed_by: str = ""

    @property
    def synchronous(self) -> bool:
        return self.mode == "synchronous"


def request(site: Site, mode: Mode | str = "", *, by: str = "", why: str = "", confirmed_by: str = "") -> Request:
    """What the runbook's parameters ask for; ``mode`` empty: as the site wishes; ``by`` empty: the user here."""
    asked: dict[str, Mode] = {
        "": site.replication.mode,
        "asynchronous": "asynchronous",
        "synchronous": "synchronous",
        "degraded": "degraded",
    }
    return Request(asked[mode], by or getpass.getuser(), why, confirmed_by)
