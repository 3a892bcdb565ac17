"""A row of the laptop's queue on its way to the primary, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """A row of ``write_queue`` that is next for its document. ``changed``: columns of an UPDATE, None: all; ``size``: bytes
    of the document's content."""

    id: int
    mutation: str
    operation: str | None
    table_name: str | None
    document_id: int | None
    base_version: int | None
    chunks_changed: bool
    changed: list[str] | None
    kind: str | None
    has_content: bool
    size: int
    attempts: int


@dataclass(frozen=True)
class Taken:
    """What of a mutation may have changed since it was looked at."""

    id: int
    operation: str | None
    document_id: int | None
    base_version: int | None
    chunks_changed: bool
    changed: list[str] | None


@dataclass(frozen=True)
class Outcome:
    """What the primary made of it: applied, conflict, gone, taken (another has a unique value of it), or refused; with the
    reason."""

    outcome: str
    document_id: int | None = None
    document_version: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Payload:
    """What is sent, as JSON that is not read on the way, or numbers would lose digits. ``chunks``: None when they stay."""

    document: str
    chunks: str | None

    @property
    def size(self) -> int:
        return len(self.document) + len(self.chunks or "")


def unfit(mutation: Mutation, limit: float) -> str:
    """Why a row of the queue cannot be sent at all; empty when it can. ``limit``: of a document, in MB."""
    if mutation.table_name != "documents":
        return f"table '{mutation.table_name}' is not synchronised; allowed is 'documents'"
    if mutation.operation not in ("INSERT", "UPDATE", "DELETE"):
        return f"operation '{mutation.operation}' is unknown; allowed are 'INSERT', 'UPDATE', 'DELETE'"
    if mutation.document_id is None and mutation.operation != "INSERT":
        return f"{mutation.operation} without document_id: change the row of documents itself, and the queue follows"
    if mutation.operation == "INSERT" and (mutation.document_id or -1) > 0 and not mutation.attempts:
        return f"INSERT with document_id {mutation.document_id}: ids above zero are given by the primary"
    if mutation.kind != "object":
        return f"data is {mutation.kind or 'missing'}; allowed is a JSON object with the columns of documents"
    if not mutation.has_content and mutation.operation != "DELETE":
        return "data.content is missing or not a text"
    if mutation.size > limit * 1e6 and mutation.operation != "DELETE":
        return f"the document has {mutation.size / 1e6:.1f} MB; allowed are {limit:g} MB (knowledge.max_file_mb)"
    return ""
