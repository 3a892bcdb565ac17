-- Who reads WAL from this server, or keeps a place in it: slots, and receivers without one. Bytes that are not confirmed yet keep
-- an orderly stop waiting. A reply is timed by the reader's own clock: an age that cannot be, of the future or beyond
-- wal_sender_timeout, after which the server would have ended it, is that of another clock and says nothing.
SELECT coalesce(s.slot_name::text, r.application_name, 'unnamed') AS name,
       coalesce(s.slot_type || ' slot', 'receiver without a slot') AS kind,
       coalesce(s.synced, false) AS synced,
       coalesce(s.temporary OR r.state = 'backup', false) AS passing,
       r.pid,
       CASE WHEN NOT pg_is_in_recovery()
            THEN pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(r.flush_lsn, r.write_lsn, r.sent_lsn))::bigint END AS behind,
       CASE WHEN a.age_s > -2 AND (t.timeout_s = 0 OR a.age_s < t.timeout_s + 2) THEN a.age_s END AS reply_age_s
  FROM pg_replication_slots s
  FULL JOIN pg_stat_replication r ON r.pid = s.active_pid
 CROSS JOIN LATERAL (SELECT extract(epoch FROM clock_timestamp() - r.reply_time)::float8 AS age_s) a
 CROSS JOIN (SELECT setting::float8 / 1000 AS timeout_s FROM pg_settings WHERE name = 'wal_sender_timeout') t
 ORDER BY 1
