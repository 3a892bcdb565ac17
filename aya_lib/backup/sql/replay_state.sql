-- How far a server in recovery is, and whether it stands at its target.
SELECT json_build_object(
    'in_recovery', pg_is_in_recovery(),
    'lsn', pg_last_wal_replay_lsn(),
    'paused', CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() = 'paused' ELSE false END)
