SELECT slot_name AS name,
       slot_type AS type,
       active,
       active_pid,
       wal_status,
       safe_wal_size,
       restart_lsn::text AS restart_lsn,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint AS retained_bytes
  FROM pg_replication_slots
 ORDER BY slot_name
