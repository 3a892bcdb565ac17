-- Who holds a lock on the application's tables that keeps others from reading or writing: sessions, and prepared transactions.
SELECT c.relname AS table,
       l.mode,
       l.pid,
       coalesce(nullif(a.application_name, ''), p.gid, '') AS application,
       coalesce(a.usename, p.owner, '')::text AS role,
       coalesce(to_char(coalesce(a.xact_start, p.prepared) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), '') AS since,
       coalesce(a.state, 'prepared transaction') AS state,
       left(regexp_replace(coalesce(a.query, ''), '\s+', ' ', 'g'), 120) AS query
  FROM pg_locks l
  JOIN pg_class c ON c.oid = l.relation AND c.relname IN ('documents', 'chunks') AND c.relnamespace = 'public'::regnamespace
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_locks x ON l.pid IS NULL AND x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction
  LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
 WHERE l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
 ORDER BY a.xact_start NULLS FIRST, l.pid, c.relname
