-- The vector column of a table: its type, and its dimension (null where the type has none).
SELECT t.typname AS type, nullif(a.atttypmod, -1) AS dimension
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %(column)s AND NOT a.attisdropped AND a.attnum > 0
  JOIN pg_type t ON t.oid = a.atttypid
 WHERE c.oid = to_regclass(%(table)s)
