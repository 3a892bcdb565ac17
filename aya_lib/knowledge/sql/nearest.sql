-- The nearest chunks by cosine distance. An iterative index scan gives them in relaxed order, so they are sorted again above.
SELECT c.id, c.embedding <=> %(vector)s AS distance
  FROM chunks c {join}
 WHERE c.embedding IS NOT NULL {required} {filters}
 ORDER BY {order}
 LIMIT %(depth)s
