-- Rows to fetch again, without those that still wait to be pushed.
SELECT relation::text, row_id FROM aya_sync.refetch r
 WHERE NOT EXISTS (SELECT FROM write_queue q WHERE NOT q.synced AND q.document_id = r.row_id AND r.relation = 'd')
 ORDER BY relation, row_id LIMIT %(most)s
