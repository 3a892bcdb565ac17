-- Header and special space of single pages, as the server has them in memory. Needs the extension pageinspect; superuser.
SELECT substring(page FROM 1 FOR 24) AS header, substring(page FROM length(page) - 7) AS tail
  FROM unnest(%(blocks)s::bigint[]) WITH ORDINALITY AS wanted (block, place),
       LATERAL {schema}.get_raw_page(%(index)s, 'main', block) AS page
 ORDER BY place
