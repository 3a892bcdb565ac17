-- A server's recovery: how far it is, what its startup process waits for, who keeps it waiting, and what it would have to do.
-- Who: whoever holds the lock it waits for (pg_blocking_pids does not know the startup process), else whoever may still see what
-- it is to remove, the oldest first.
SELECT %(node)s::text AS node,
       r.recovering,
       coalesce(pg_last_wal_replay_lsn(), '0/0')::text AS replayed_lsn,
       greatest(0, pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()))::bigint AS backlog_bytes,
       CASE WHEN r.recovering THEN pg_get_wal_replay_pause_state() ELSE 'not paused' END AS pause,
       coalesce(s.wait_event, '') AS waits_for,
       coalesce((SELECT format('PID %%s of role %%s (%%s), %%s s in its transaction', a.pid, a.usename,
                               coalesce(nullif(a.application_name, ''), 'no name'),
                               round(extract(epoch FROM clock_timestamp() - a.xact_start)))
                   FROM pg_stat_activity a
                  WHERE a.pid <> pg_backend_pid()
                    AND (a.pid = ANY (s.blockers) OR s.conflict AND s.blockers = '{}' AND a.backend_xmin IS NOT NULL)
                  ORDER BY a.xact_start LIMIT 1), '') AS held_by,
       (SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'recovery_min_apply_delay') AS delay_s,
       current_setting('restore_command') AS restore_command,
       current_setting('recovery_end_command') AS end_command,
       ARRAY(SELECT name FROM pg_settings
              WHERE name IN ('recovery_target', 'recovery_target_lsn', 'recovery_target_name', 'recovery_target_time',
                             'recovery_target_xid') AND setting <> '' ORDER BY name) AS targets,
       EXISTS (SELECT FROM pg_file_settings WHERE name = 'default_transaction_read_only' AND applied
                  AND lower(setting) IN ('on', 'true', 'yes', '1', 't', 'y')) AS read_only,
       (SELECT jsonb_object_agg(name, setting::int) FROM pg_settings WHERE name = ANY(%(sizes)s)) AS sizes
  FROM (SELECT pg_is_in_recovery() AS recovering) r
  LEFT JOIN LATERAL (SELECT a.pid, wait_event, wait_event_type IN ('Lock', 'BufferPin') OR wait_event LIKE 'RecoveryConflict%%' AS conflict,
                            ARRAY(SELECT h.pid FROM pg_locks w JOIN pg_locks h USING (locktype, database, relation)
                                   WHERE w.pid = a.pid AND NOT w.granted AND h.granted AND h.pid <> w.pid) AS blockers
                       FROM pg_stat_activity a WHERE backend_type = 'startup') s ON true
