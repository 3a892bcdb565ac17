-- The primary has this mutation, which was never sent as far as is known here: the laptop was put back to a copy of its files, and
-- may have changed the document since. What it has now is a change of the version that arrived.
WITH was AS MATERIALIZED (
    SELECT q.id, q.document_id FROM write_queue q
     WHERE q.mutation = %(mutation)s::uuid AND NOT q.synced
       AND (q.document_id = %(document_id)s OR NOT EXISTS (SELECT FROM documents WHERE id = %(document_id)s))
), moved AS (
    UPDATE documents d SET id = %(document_id)s, version = %(version)s FROM was WHERE d.id = was.document_id
)
UPDATE write_queue q
   SET document_id = %(document_id)s, base_version = %(version)s, changed = NULL, chunks_changed = true,
       operation = CASE WHEN q.operation = 'INSERT' THEN 'UPDATE' ELSE q.operation END,
       mutation = CASE WHEN q.id = was.id THEN uuidv7() ELSE q.mutation END
  FROM was WHERE q.document_id = was.document_id AND NOT q.synced
