-- Distances of the nearest others, exact where index scans are off.
SELECT {column} {operator} $1::vector FROM {table} WHERE {column} IS NOT NULL AND {key}::text <> $2 ORDER BY 1 LIMIT {k}
