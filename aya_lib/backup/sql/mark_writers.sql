-- Who holds what a mark waits for, oldest first: sessions and prepared transactions with locks of writers, vacuums, index builds.
SELECT DISTINCT ON (since, who)
       concat(coalesce('PID ' || l.pid, 'prepared transaction'), coalesce(' ' || nullif(a.application_name, ''), ''),
              ' on ', c.relname, coalesce(', since ' || to_char(a.xact_start, 'HH24:MI:SS'), '')) AS who,
       coalesce(a.xact_start, '-infinity') AS since
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relkind = 'r' AND c.oid >= 16384
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareLock')
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY since, who
 LIMIT 3
