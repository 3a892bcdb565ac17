"""The library under the AYA runbooks: facts, checks, plans of changes, and the runbook that shows them."""

__version__ = "0.1.0"
