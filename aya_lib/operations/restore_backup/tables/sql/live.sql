-- A present table: its columns but for those that are computed; no row when there is none of that name.
SELECT array_agg(a.attname::text ORDER BY a.attnum) AS columns
  FROM pg_attribute a
 WHERE a.attrelid = to_regclass(%(name)s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
HAVING count(*) > 0
