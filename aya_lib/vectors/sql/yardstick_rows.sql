-- Vectors of a table; the key that goes with each is not used.
COPY (SELECT 0::int8, {column} FROM {table} {sample} WHERE {column} IS NOT NULL LIMIT {most}) TO STDOUT (FORMAT binary)
