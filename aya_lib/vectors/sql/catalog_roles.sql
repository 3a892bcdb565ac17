-- Settings of roles and databases that decide how vectors are searched in this database. NULL: every role, every database.
SELECT d.datname AS database, r.rolname AS role, split_part(line, '=', 1) AS name, split_part(line, '=', 2)::int AS value
  FROM pg_db_role_setting s
  LEFT JOIN pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_roles r ON r.oid = s.setrole,
       unnest(s.setconfig) AS line
 WHERE (s.setdatabase = 0 OR d.datname = current_database())
   AND split_part(line, '=', 1) IN ('ivfflat.probes', 'hnsw.ef_search')
 ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 3
