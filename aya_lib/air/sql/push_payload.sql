-- What to send: of the document as it is now (as it was, when it is gone since) the columns that were changed here, or all that
-- travel; and its chunks where they changed.
SELECT CASE WHEN d.id IS NULL THEN (q.data - 'id' - 'version')::text
            ELSE (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(to_jsonb(d))
                   WHERE key = ANY (%(documents)s::text[]) AND key NOT IN ('id', 'version')
                     AND (q.operation <> 'UPDATE' OR q.changed IS NULL OR key = ANY (q.changed)))::text END AS document,
       CASE WHEN d.id IS NULL OR NOT q.chunks_changed THEN NULL
            ELSE coalesce((SELECT jsonb_agg((SELECT jsonb_object_agg(key, value) FROM jsonb_each(to_jsonb(c))
                                              WHERE key = ANY (%(chunks)s::text[]) AND key NOT IN ('id', 'document_id'))
                                            ORDER BY c.chunk_index, c.id)
                             FROM chunks c WHERE c.document_id = d.id), '[]')::text END AS chunks
  FROM write_queue q LEFT JOIN documents d ON d.id = q.document_id AND q.operation <> 'DELETE'
 WHERE q.id = %(id)s
