-- The next mutation of each document that may be sent now: none before it is unsent, refused, or still without its chunks.
-- One that is too large has none, and is refused. What failed comes last.
SELECT q.id, q.mutation::text AS mutation, q.operation, q.table_name, q.document_id, q.base_version, q.chunks_changed, q.attempts, q.changed,
       jsonb_typeof(q.data) AS kind,
       coalesce(jsonb_typeof(q.data -> 'content') = 'string', false) AS has_content,
       coalesce(octet_length(coalesce(d.content, q.data ->> 'content')), 0) AS size
  FROM write_queue q LEFT JOIN documents d ON d.id = q.document_id
 WHERE NOT q.synced AND q.state = 'queued' AND (NOT q.needs_chunks OR octet_length(d.content) > %(largest)s)
   AND q.id <> ALL (%(but)s::int[])
   AND NOT EXISTS (SELECT FROM write_queue b WHERE b.document_id = q.document_id AND NOT b.synced AND b.id < q.id)
 ORDER BY q.attempts, q.id LIMIT %(most)s
