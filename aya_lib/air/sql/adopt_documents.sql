-- Documents that were written here past the triggers are queued all the same; how many.
SELECT count(aya_sync.queue('INSERT', d.id, to_jsonb(d), NULL, true, NOT EXISTS (SELECT FROM chunks c WHERE c.document_id = d.id)))::int
  FROM documents d
 WHERE d.id < 0 AND NOT EXISTS (SELECT FROM write_queue q WHERE q.document_id = d.id AND NOT q.synced)
