-- Documents that lack their chunks and are not too large to be sent, the smallest first.
SELECT d.id, d.content FROM documents d
 WHERE d.id IN (SELECT document_id FROM write_queue WHERE NOT synced AND needs_chunks) AND octet_length(d.content) <= %(largest)s AND d.id <> ALL (%(but)s::int[])
 ORDER BY octet_length(d.content), d.id LIMIT 50
