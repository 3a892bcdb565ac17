-- Settings of roles and databases that keep their commits from waiting. The catalog is shared, and replicated. All spellings that
-- the server takes for on, remote_write and remote_apply wait; the others do not.
SELECT coalesce(r.rolname, 'every role') || ' in ' || coalesce(d.datname, 'every database') || ': ' || one
  FROM pg_db_role_setting s
  LEFT JOIN pg_roles r ON r.oid = s.setrole
  LEFT JOIN pg_database d ON d.oid = s.setdatabase,
       unnest(s.setconfig) AS one
 WHERE split_part(one, '=', 1) = 'synchronous_commit'
   AND lower(split_part(one, '=', 2)) NOT IN ('on', 'true', 'yes', '1', 'remote_write', 'remote_apply')
 ORDER BY 1
