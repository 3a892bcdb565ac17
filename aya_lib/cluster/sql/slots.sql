SELECT slot_name AS name,
       active,
       active_pid,
       wal_status,
       safe_wal_size
  FROM pg_replication_slots
 ORDER BY slot_name
