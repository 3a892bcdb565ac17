SELECT slot_name AS name,
       active,
       active_pid,
       wal_status,
       safe_wal_size,
       slot_type = 'logical' AS logical,
       coalesce(database, '') AS database,
       temporary,
       coalesce(failover, false) AS failover,
       coalesce(synced, false) AS synced
  FROM pg_replication_slots
 ORDER BY slot_name
