-- What a restored server holds: its timeline, its position, its last transaction, its tables and their rows.
SELECT json_build_object(
    'timeline', CASE WHEN pg_is_in_recovery() THEN 0 ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
    'lsn', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
    'last', coalesce(to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US "UTC"'), 'not known'),
    'tables', count(*),
    'rows', coalesce(sum(substring(query_to_xml(format('SELECT count(*) AS n FROM ONLY %I.%I', schemaname, tablename),
                                                false, true, '')::text FROM '<n>(.*?)</n>')::bigint), 0))
  FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
