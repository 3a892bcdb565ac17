INSERT INTO aya_sync.renamed (local_id, document_id) VALUES (%(document_id)s, %(new_id)s)
    ON CONFLICT (local_id) DO UPDATE SET document_id = excluded.document_id, at = now()
