-- The vector column of a table: its type, its dimension (null where the type has none), and about how many rows there are.
SELECT t.typname AS type, nullif(a.atttypmod, -1) AS dimension, greatest(c.reltuples, 0)::bigint AS rows
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %(column)s AND NOT a.attisdropped AND a.attnum > 0
  JOIN pg_type t ON t.oid = a.atttypid
 WHERE c.oid = to_regclass(%(table)s)
