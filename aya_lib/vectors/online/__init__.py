"""Rebuilding a live index beside running searches."""
