-- The role and position of one server. On a standby the timeline is the one it receives.
SELECT %(node)s::text AS node,
       s.system_identifier::text AS system_identifier,
       r.in_recovery,
       current_setting('server_version') AS version,
       CASE WHEN r.in_recovery
            THEN greatest(c.timeline_id, coalesce((SELECT received_tli FROM pg_stat_wal_receiver), 0))
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
       END AS timeline,
       (CASE WHEN r.in_recovery THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text AS lsn,
       (SELECT nullif(atttypmod, -1) FROM pg_attribute
         WHERE attrelid = to_regclass('public.chunks') AND attname = 'embedding' AND NOT attisdropped) AS vector_dimension,
       (SELECT json_object_agg(name, setting::int) FROM pg_settings WHERE name = ANY (%(sizes)s)) AS sizes,
       extract(epoch FROM clock_timestamp())::float8 AS clock_s
  FROM pg_control_system() s,
       pg_control_checkpoint() c,
       (SELECT pg_is_in_recovery() AS in_recovery) r
