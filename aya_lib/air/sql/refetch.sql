INSERT INTO aya_sync.refetch (relation, row_id) VALUES ('d', %(id)s) ON CONFLICT DO NOTHING
