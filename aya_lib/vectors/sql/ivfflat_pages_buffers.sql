-- The first pages of an index as the server has them in memory. Needs the extension pageinspect; superuser.
SELECT {schema}.get_raw_page(%(index)s, 'main', block)
  FROM generate_series(0, %(pages)s::bigint - 1) AS block
 ORDER BY block
