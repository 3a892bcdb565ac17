-- Who holds a lock on an index, longest transaction first.
SELECT DISTINCT a.pid, coalesce(a.application_name, '') AS application,
       coalesce(extract(epoch FROM now() - a.xact_start), 0)::float AS age_s
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.relation = to_regclass(%(index)s) AND l.granted AND l.pid <> pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY age_s DESC
