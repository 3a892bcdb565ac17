-- Transactions of this database that were begun and left: a concurrent build waits for those that hold what it needs.
SELECT pid, usename AS role, application_name AS application, extract(epoch FROM now() - xact_start)::float AS age_s
  FROM pg_stat_activity
 WHERE datname = current_database() AND state IN ('idle in transaction', 'idle in transaction (aborted)')
   AND now() - xact_start > %(older_s)s * interval '1 s' AND pid <> pg_backend_pid()
 ORDER BY xact_start
