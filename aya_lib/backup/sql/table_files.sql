-- The files that a table's rows stand in, those of its partitions too: database and file node of each. None: no such table.
SELECT coalesce(json_agg(d.oid || '/' || pg_relation_filenode(p.relid)), '[]')
  FROM pg_database d,
       LATERAL (SELECT to_regclass(%(table)s)::regclass AS relid
                UNION
                SELECT t.relid FROM pg_partition_tree(to_regclass(%(table)s)) t) p
 WHERE d.datname = current_database() AND pg_relation_filenode(p.relid) IS NOT NULL
