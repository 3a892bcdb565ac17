UPDATE aya_sync.laptop SET paused_until = CASE WHEN %s > 0 THEN clock_timestamp() + %s * interval '1 min' END
RETURNING paused_until::timestamptz(0)::text
