-- The receiving side. Without a receiver process the row is there all the same, with status null.
SELECT %(node)s::text AS node,
       w.status,
       w.slot_name,
       w.sender_host,
       w.sender_port,
       extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time)::float8 AS receipt_age_s,
       pg_get_wal_replay_pause_state() AS replay_state,
       current_setting('primary_conninfo') <> '' AS has_conninfo,
       (SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'wal_receiver_timeout') AS timeout_s,
       current_setting('restore_command') AS restore_command,
       extract(epoch FROM clock_timestamp())::float8 AS clock_s,
       (SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'recovery_min_apply_delay') AS delay_s
  FROM (SELECT 1) AS one
  LEFT JOIN pg_stat_wal_receiver w ON true
