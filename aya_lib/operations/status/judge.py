"""The state of a site: green only when somebody can write and read, and, on production, what is written is backed up."""

from __future__ import annotations

from aya_lib.backup import judge as backup
from aya_lib.check import Check
from aya_lib.cluster.judge import application, overview
from aya_lib.operations.status.look import Found


def checks(found: Found) -> list[Check]:
    protected = backup.checks(found.site, found.repository) if found.repository else []
    return [*overview.judge(found.site, found.overview), *application.checks(found.site, found.application), *protected]
