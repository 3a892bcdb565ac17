-- Standbys as the sending server sees them. Bytes and ages are what a silent link cannot hide; reply_time is by the standby's
-- own clock.
SELECT application_name,
       coalesce(host(client_addr), 'local') AS client,
       pid,
       state,
       sync_state,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS bytes_behind,
       extract(epoch FROM clock_timestamp() - reply_time)::float8 AS reply_age_s,
       extract(epoch FROM replay_lag)::float8 AS replay_lag_s
  FROM pg_stat_replication
 WHERE state IS NOT NULL
 ORDER BY application_name, pid
