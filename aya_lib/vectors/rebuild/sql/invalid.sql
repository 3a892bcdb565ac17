-- Invalid vector indexes of a table that nobody is building.
SELECT i.relname AS name
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am am ON am.oid = i.relam AND am.amname IN ('ivfflat', 'hnsw')
 WHERE x.indrelid = to_regclass(%(table)s) AND NOT x.indisvalid
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = x.indrelid)
 ORDER BY 1
