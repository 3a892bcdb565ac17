SELECT id, mutation::text AS mutation, operation, document_id, system_identifier, timeline, lsn::text AS lsn
  FROM write_queue WHERE synced AND state = 'done' AND document_id IS NOT NULL AND lsn IS NOT NULL ORDER BY id
