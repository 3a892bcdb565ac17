-- The table, its vector column and its key; no row when there is no such table.
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name,
       format_type(a.atttypid, NULL) AS type, nullif(a.atttypmod, -1) AS dimension,
       greatest(c.reltuples, 0)::bigint AS rows_estimated, pg_table_size(c.oid) AS bytes,
       (SELECT k.attname
          FROM pg_index x JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = x.indkey[0]
         WHERE x.indrelid = c.oid AND x.indisprimary AND x.indnkeyatts = 1) AS key
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %(column)s AND NOT a.attisdropped
 WHERE c.oid = to_regclass(%(table)s) AND c.relkind IN ('r', 'p', 'm')
