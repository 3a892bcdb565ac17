-- Of each of these ranges of ids: how many rows, and one checksum over the hashes of them all.
SELECT part.relation, part.number, summed.rows, summed.checksum
  FROM unnest(%(relations)s::text[], %(parts)s::int[]) AS part (relation, number)
 CROSS JOIN LATERAL (
       SELECT count(*)::int AS rows, md5(string_agg(hash, ',' ORDER BY id)) AS checksum FROM ({rows}) AS hashed
        WHERE hashed.relation = part.relation AND hashed.id BETWEEN part.number::bigint * {size} AND part.number::bigint * {size} + {size} - 1
       ) AS summed
 WHERE summed.rows > 0
