"""Whose name stands under a harmful change. One rule for the runbooks and for the command line."""

from __future__ import annotations

from aya_lib.errors import ApprovalMissing
from aya_lib.plan.change import Plan
from aya_lib.site import Site


def require_approval(site: Site, plan: Plan, approved_by: str) -> None:
    """:class:`ApprovalMissing` when the plan interrupts or destroys on a production site and nobody approved it."""
    harmful = [step.title for step in plan.changes if step.harmful]
    if site.production and harmful and not approved_by.strip():
        raise ApprovalMissing(
            f"{site.name} is a production site and the plan interrupts or destroys: {'; '.join(harmful)}",
            hint="Read the plan, then run it again with approved_by set to your name (--approved-by NAME)",
        )
