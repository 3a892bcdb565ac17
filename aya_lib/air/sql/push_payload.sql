-- What to send: the document as it is now (as it was, when it is gone since), and its chunks where they changed.
SELECT q.id,
       coalesce(to_jsonb(d), q.data) - 'id' - 'version',
       CASE WHEN d.id IS NULL OR NOT q.chunks_changed THEN NULL
            ELSE coalesce((SELECT jsonb_agg(to_jsonb(c) - 'id' - 'document_id' - 'chunk_terms' ORDER BY c.chunk_index, c.id)
                             FROM chunks c WHERE c.document_id = d.id), '[]') END
  FROM write_queue q LEFT JOIN documents d ON d.id = q.document_id AND q.operation <> 'DELETE'
 WHERE q.id = ANY (%(ids)s) ORDER BY q.id
