SELECT hashed.relation, hashed.id, hashed.hash
  FROM unnest(%(relations)s::text[], %(parts)s::int[]) AS part (relation, number)
 CROSS JOIN LATERAL (
       SELECT * FROM ({rows}) AS rows
        WHERE rows.relation = part.relation AND rows.id BETWEEN part.number::bigint * {size} AND part.number::bigint * {size} + {size} - 1
       ) AS hashed
