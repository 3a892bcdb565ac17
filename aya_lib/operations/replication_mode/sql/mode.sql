-- What a server says beside its settings: exempt roles and databases, its archiver, its log file.
SELECT ARRAY(SELECT coalesce(r.rolname, 'every role') || ' in ' || coalesce(d.datname, 'every database') || ': ' || one
               FROM pg_db_role_setting s
               LEFT JOIN pg_roles r ON r.oid = s.setrole
               LEFT JOIN pg_database d ON d.oid = s.setdatabase,
                    unnest(s.setconfig) AS one
              WHERE one IN ('synchronous_commit=off', 'synchronous_commit=local')) AS exempt,
       archived_count AS archived,
       failed_count AS failed,
       last_archived_wal,
       last_failed_wal,
       coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS failing,
       pg_current_logfile() AS log
  FROM pg_stat_archiver
