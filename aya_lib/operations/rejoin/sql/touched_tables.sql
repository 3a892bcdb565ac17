-- Tables whose files are among :filenodes, with the columns of their primary keys; run by psql.
SELECT coalesce(json_agg(json_build_object('schema', n.nspname, 'name', c.relname, 'filenode', pg_relation_filenode(c.oid)::bigint,
       'key', ARRAY(SELECT a.attname
                      FROM pg_index i
                     CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
                      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                     WHERE i.indrelid = c.oid AND i.indisprimary
                     ORDER BY k.place)) ORDER BY n.nspname, c.relname), '[]')
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm')
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND pg_relation_filenode(c.oid) = ANY (:'filenodes'::oid[])
