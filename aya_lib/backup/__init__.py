"""Backups that were seen to restore: base backups, the WAL between them, the dump beside them, and the proof.

One *keeper* (``backup.node`` of the site) holds the *repository*. PostgreSQL's own programs are the engine.
"""
