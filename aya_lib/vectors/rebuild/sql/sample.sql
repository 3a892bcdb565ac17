-- Some vectors of the table, the same ones at each call: their keys and themselves, as text.
SELECT {key}::text, {column}::text FROM {table} WHERE {column} IS NOT NULL ORDER BY md5({key}::text) LIMIT %(queries)s
