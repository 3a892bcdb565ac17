SELECT pg_current_snapshot()::text, 'aya_sync.changes'::regclass::oid::bigint, (SELECT pruned_below::text FROM aya_sync.state)
