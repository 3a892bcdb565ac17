"""Rebuilding the live vector index beside running searches: what a runbook needs of it."""

from aya_lib.vectors.rebuild.look import Rebuild, checks, flush, look, plan, preconditions
from aya_lib.vectors.request import Request

__all__ = ["Rebuild", "Request", "checks", "flush", "look", "plan", "preconditions"]
