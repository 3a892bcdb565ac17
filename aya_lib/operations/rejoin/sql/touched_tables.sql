-- Tables whose files are among :filenodes, with the columns of their primary keys; of all databases' if :shared. Run by psql.
SELECT coalesce(json_agg(json_build_object('schema', n.nspname, 'name', c.relname, 'filenode', pg_relation_filenode(c.oid)::bigint,
       'rows', n.nspname <> 'pg_catalog' OR c.relname LIKE 'pg\_largeobject%',
       'key', ARRAY(SELECT a.attname
                      FROM pg_index i
                     CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
                      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                     WHERE i.indrelid = c.oid AND i.indisprimary
                     ORDER BY k.place)) ORDER BY n.nspname, c.relname), '[]')
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relisshared = :'shared'::boolean
   AND n.nspname NOT IN ('information_schema', 'pg_toast') AND c.relname NOT LIKE 'pg\_statistic%'
   AND pg_relation_filenode(c.oid) = ANY (:'filenodes'::oid[])
