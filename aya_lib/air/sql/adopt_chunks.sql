-- After a pull no chunk with an id of this laptop is left but those that wait, or were written past the triggers: how many documents
-- have such.
SELECT count(aya_sync.queue('UPDATE', d.id, to_jsonb(d), d.version, true, false, '{}'))::int
  FROM documents d
 WHERE d.id > 0 AND d.id IN (SELECT document_id FROM chunks WHERE id < 0)
   AND NOT EXISTS (SELECT FROM write_queue q WHERE q.document_id = d.id AND NOT q.synced)
   AND NOT EXISTS (SELECT FROM aya_sync.refetch r WHERE r.relation = 'd' AND r.row_id = d.id)
