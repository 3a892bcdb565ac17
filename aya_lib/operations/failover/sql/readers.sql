-- Who reads WAL from this server, or keeps a place in it: slots, and receivers without one. Bytes that are not confirmed yet keep
-- an orderly stop waiting.
SELECT coalesce(s.slot_name::text, r.application_name, 'unnamed') AS name,
       coalesce(s.slot_type || ' slot', 'receiver without a slot') AS kind,
       coalesce(s.synced, false) AS synced,
       coalesce(s.temporary OR r.state = 'backup', false) AS passing,
       r.pid,
       CASE WHEN NOT pg_is_in_recovery()
            THEN pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(r.flush_lsn, r.write_lsn, r.sent_lsn))::bigint END AS behind,
       extract(epoch FROM clock_timestamp() - r.reply_time)::float8 AS reply_age_s
  FROM pg_replication_slots s
  FULL JOIN pg_stat_replication r ON r.pid = s.active_pid
 ORDER BY 1
