-- Every vector index of chunks.embedding, whether searches can use it, and whether somebody is at work on it.
SELECT i.relname AS name,
       x.indisvalid AND x.indisready AS valid,
       EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = x.indexrelid) AS building
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_am m ON m.oid = i.relam AND m.amname IN ('ivfflat', 'hnsw')
 WHERE x.indrelid = to_regclass('public.chunks')
 ORDER BY 1
