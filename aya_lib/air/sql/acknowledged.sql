-- The primary keeps what it knows of a mutation for 180 days. One cannot have come to it before it was made here.
SELECT id, mutation::text AS mutation, operation, document_id, system_identifier, timeline, lsn::text AS lsn,
       created_at > now() - interval '170 days' AS recent
  FROM write_queue WHERE synced AND state = 'done' AND document_id IS NOT NULL AND lsn IS NOT NULL ORDER BY id
