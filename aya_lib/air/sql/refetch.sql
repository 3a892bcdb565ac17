INSERT INTO aya_sync.refetch (relation, row_id) VALUES (%s, %s) ON CONFLICT DO NOTHING
