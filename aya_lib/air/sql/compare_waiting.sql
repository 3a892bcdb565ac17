-- What may differ: documents that wait to be pushed, rows to be fetched again, and rows that the primary does not know yet.
SELECT coalesce((SELECT array_agg(DISTINCT document_id) FROM write_queue WHERE NOT synced AND document_id > 0), '{}') AS queued,
       (SELECT count(*) FROM write_queue WHERE NOT synced)::int AS mutations,
       coalesce((SELECT array_agg(row_id) FROM aya_sync.refetch WHERE relation = 'd'), '{}') AS documents,
       coalesce((SELECT array_agg(row_id) FROM aya_sync.refetch WHERE relation = 'c'), '{}') AS chunks
