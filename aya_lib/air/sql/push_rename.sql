-- The document takes the primary's id (its chunks and later mutations with it) and version. A second time nothing is left to do.
WITH moved AS (
    UPDATE documents SET id = %(new_id)s, version = %(new_version)s
     WHERE id = %(document_id)s AND %(operation)s <> 'DELETE'
)
UPDATE write_queue SET document_id = %(new_id)s, base_version = %(new_version)s
 WHERE document_id = %(document_id)s AND NOT synced AND id > %(id)s
