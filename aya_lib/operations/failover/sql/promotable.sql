-- What matters of a standby that is about to be promoted.
SELECT coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text AS received_lsn,
       pg_last_xact_replay_timestamp() AS last_commit_at,
       w.latest_end_lsn::text AS told_lsn,
       extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time)::float8 AS told_age_s,
       current_setting('restore_command') AS restore_command,
       current_setting('summarize_wal') = 'on' AS summarizes,
       current_setting('synchronous_standby_names') AS synchronous_names,
       coalesce(substring(current_setting('primary_conninfo') FROM 'application_name\s*=\s*''?([^'' &]+)'),
                nullif(current_setting('cluster_name'), ''), 'walreceiver') AS listens_as,
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s) AS has_slot
  FROM (SELECT pg_is_in_recovery()) AS one
  LEFT JOIN pg_stat_wal_receiver w ON true
 WHERE pg_is_in_recovery()
