SELECT pg_current_snapshot()::text AS snapshot, 'aya_sync.changes'::regclass::oid::bigint AS oid,
       (SELECT pruned_below::text::bigint FROM aya_sync.state) AS pruned_below
