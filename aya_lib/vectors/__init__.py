"""The vector index: measured, tuned, checked, and rebuilt beside the running system."""
