-- What is sent now: as it is at this moment, for it may have changed, gone, or lost its chunks since it was looked at. From here on
-- a change of the document is a mutation of its own.
UPDATE write_queue SET attempts = attempts + 1
 WHERE id = ANY (%(ids)s) AND NOT synced AND state = 'queued' AND NOT needs_chunks
RETURNING id, operation, document_id, base_version, chunks_changed, changed
