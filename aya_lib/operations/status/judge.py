"""The state of a site: green only when somebody can write and read."""

from __future__ import annotations

from aya_lib.check import Check
from aya_lib.cluster.judge import application, overview
from aya_lib.operations.status.look import Found


def checks(found: Found) -> list[Check]:
    return [*overview.judge(found.site, found.overview), *application.checks(found.site, found.application)]
