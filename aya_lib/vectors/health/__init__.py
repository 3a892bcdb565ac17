"""The check-up of a live index: its own pages, the recall they imply, and a verdict."""
