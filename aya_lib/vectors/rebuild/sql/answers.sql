-- Distances of what the index's own search finds, without the query itself.
SELECT t.{column} {operator} $1::vector
  FROM ({search}) AS near JOIN {table} t USING ({key})
 WHERE t.{key}::text <> $2
 ORDER BY 1
 LIMIT {k}
