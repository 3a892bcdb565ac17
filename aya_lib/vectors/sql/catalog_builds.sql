-- Builds of an index that run on the table.
SELECT p.pid, coalesce(i.relname, '') AS index, p.command, p.phase
  FROM pg_stat_progress_create_index p LEFT JOIN pg_class i ON i.oid = p.index_relid
 WHERE p.relid = %(oid)s::oid
 ORDER BY p.pid
