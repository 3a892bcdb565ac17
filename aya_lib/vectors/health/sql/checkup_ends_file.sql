-- Header and special space of single pages, as they are on disk. A relation stands in segments of segment_size blocks.
SELECT pg_read_binary_file(segment, start, 24, true) AS header,
       pg_read_binary_file(segment, start + block_size - 8, 8, true) AS tail
  FROM (SELECT setting::bigint AS segment_size FROM pg_settings WHERE name = 'segment_size'),
       (SELECT setting::bigint AS block_size FROM pg_settings WHERE name = 'block_size'),
       unnest(%(blocks)s::bigint[]) WITH ORDINALITY AS wanted (block, place),
       LATERAL (SELECT pg_relation_filepath(%(index)s::regclass)
                       || CASE WHEN block >= segment_size THEN '.' || block / segment_size ELSE '' END AS segment,
                       mod(block, segment_size) * block_size AS start)
 ORDER BY place
