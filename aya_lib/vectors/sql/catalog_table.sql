-- The table, its vector column and its key (problem: why there is no such column), what a build can have on this server, and
-- what the server's configuration says of searching. Always one row.
SELECT t.oid, coalesce(t.schema, '') AS schema, t.key, coalesce(t.dimension, 0) AS dimension,
       CASE WHEN t.oid IS NULL THEN format('there is no table %%s', %(table)s)
            WHEN t.type IS NULL THEN format('%%s has no column %%s', %(table)s, %(column)s)
            WHEN t.type <> 'vector' THEN format('%%s.%%s is of type %%s, not vector', %(table)s, %(column)s, t.type)
            WHEN t.dimension IS NULL
            THEN format('%%s.%%s has no dimension: its type is vector, not vector(n)', %(table)s, %(column)s)
            ELSE '' END AS problem,
       to_regclass('aya_settings') IS NOT NULL AS settings_table,
       pg_is_in_recovery() AS in_recovery,
       pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       current_setting('max_parallel_maintenance_workers')::int AS workers,
       (SELECT coalesce(jsonb_object_agg(name, setting::int), '{}')
          FROM pg_settings WHERE name IN ('ivfflat.probes', 'hnsw.ef_search')
           AND source IN ('configuration file', 'command line')) AS configured
  FROM (SELECT) AS always
  LEFT JOIN LATERAL (
       SELECT c.oid::bigint AS oid, n.nspname AS schema, format_type(a.atttypid, NULL) AS type,
              nullif(a.atttypmod, -1) AS dimension,
              (SELECT k.attname
                 FROM pg_index x JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = x.indkey[0]
                WHERE x.indrelid = c.oid AND x.indisprimary AND x.indnkeyatts = 1) AS key
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %(column)s AND NOT a.attisdropped
        WHERE c.oid = to_regclass(%(table)s) AND c.relkind IN ('r', 'p', 'm')) AS t ON true
