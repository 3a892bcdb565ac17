-- What the sending server promises, and who waits because of it.
SELECT current_setting('synchronous_standby_names') AS names,
       current_setting('synchronous_commit') AS commit,
       (SELECT setting::int FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS slot_keep_mb,
       count(*)::int AS waiting,
       extract(epoch FROM clock_timestamp())::float8 AS clock_s
  FROM pg_stat_activity
 WHERE wait_event = 'SyncRep'
