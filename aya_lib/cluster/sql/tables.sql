-- Tables of the application, those that views are kept in, and large objects: with the columns of the primary key to order by, and
-- whether their order depends on a collation. Smallest schema name first.
SELECT n.nspname AS schema,
       c.relname AS name,
       coalesce(k.keys, '{}') AS keys,
       coalesce(k.collated, '{}') AS collated
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY i.place) AS keys,
                            array_agg(a.attcollation <> 0 ORDER BY i.place) AS collated
                       FROM pg_index x
                      CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY AS i (attnum, place)
                       JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.attnum
                      WHERE x.indrelid = c.oid AND (x.indisprimary OR x.indexrelid = 'pg_largeobject_loid_pn_index'::regclass)
                        AND i.place <= x.indnkeyatts) k ON true
 WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated) AND c.relpersistence = 'p'
   AND (n.nspname NOT IN ('pg_catalog', 'information_schema')
        OR c.oid = 'pg_largeobject'::regclass
           AND EXISTS (SELECT FROM pg_largeobject_metadata) AND has_table_privilege(c.oid, 'SELECT'))
   AND c.relname NOT LIKE 'aya\_probe\_%%'
 ORDER BY 1, 2
