"""The schema of ``aya_rag``: idempotent, and safe on a live database."""

from aya_lib.schema.create import create, create_index

__all__ = ["create", "create_index"]
