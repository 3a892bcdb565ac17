-- Fill the terms of the next rows after a given id that have none; gives the last id looked at, or nothing at the end.
WITH next AS MATERIALIZED (
    SELECT id FROM chunks WHERE id > %(after)s ORDER BY id LIMIT 1000
), filled AS (
    UPDATE chunks SET chunk_terms = to_tsvector(%(language)s::regconfig, chunk_text)
     WHERE id IN (SELECT id FROM next) AND chunk_terms IS NULL
)
SELECT max(id) FROM next HAVING count(*) > 0
