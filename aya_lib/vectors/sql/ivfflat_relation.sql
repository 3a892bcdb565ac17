-- What an index is, and how its pages can be read; no row when there is no such index.
-- pageinspect: the schema of that extension, if it is there. An unlogged index reaches the disk only when the server stops.
SELECT (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'pageinspect') AS pageinspect,
       am.amname::text AS method, split_part(o.opcname, '_', 1) AS kind, i.relpersistence = 'u' AS unlogged,
       current_setting('block_size')::int AS block_size,
       pg_relation_size(i.oid) / current_setting('block_size')::bigint AS pages
  FROM pg_class i
  JOIN pg_index x ON x.indexrelid = i.oid
  JOIN pg_am am ON am.oid = i.relam
  JOIN pg_opclass o ON o.oid = x.indclass[0]
 WHERE i.oid = to_regclass(%(index)s)
