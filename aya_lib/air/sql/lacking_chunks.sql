SELECT DISTINCT d.id, d.content FROM documents d JOIN write_queue q ON q.document_id = d.id
 WHERE NOT q.synced AND q.needs_chunks ORDER BY d.id
