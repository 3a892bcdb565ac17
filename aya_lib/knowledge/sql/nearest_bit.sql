-- The nearest chunks of those whose signs differ least: more candidates than are asked for, ranked again by cosine distance.
SELECT id, distance
  FROM (SELECT c.id, c.embedding <=> %(vector)s AS distance
          FROM chunks c {join}
         WHERE c.embedding IS NOT NULL {required} {filters}
         ORDER BY {order}
         LIMIT %(candidates)s) AS candidates
 ORDER BY distance, id
 LIMIT %(depth)s
