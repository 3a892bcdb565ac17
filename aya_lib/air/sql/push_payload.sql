-- What to send: the document as it is now (as it was, when it is gone since), and its chunks where they changed.
SELECT (coalesce(to_jsonb(d), q.data) - 'id' - 'version')::text AS document,
       CASE WHEN d.id IS NULL OR NOT q.chunks_changed THEN NULL
            ELSE coalesce((SELECT jsonb_agg(to_jsonb(c) - 'id' - 'document_id' - 'chunk_terms' ORDER BY c.chunk_index, c.id)
                             FROM chunks c WHERE c.document_id = d.id), '[]')::text END AS chunks
  FROM write_queue q LEFT JOIN documents d ON d.id = q.document_id AND q.operation <> 'DELETE'
 WHERE q.id = %(id)s
