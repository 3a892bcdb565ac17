-- What a server says beside its settings: its archiver.
SELECT archived_count AS archived,
       failed_count AS failed,
       last_archived_wal,
       last_failed_wal,
       coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS failing
  FROM pg_stat_archiver
