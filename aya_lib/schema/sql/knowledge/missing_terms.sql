-- Make the terms of the next rows after a given id, where they are others; gives the last id looked at, or nothing at the end.
WITH next AS MATERIALIZED (
    SELECT id, chunk_terms AS old, public.aya_chunk_terms(chunk_text, metadata) AS new
      FROM chunks WHERE id > %(after)s ORDER BY id LIMIT 1000
), filled AS (
    UPDATE chunks c SET chunk_terms = public.aya_chunk_terms(c.chunk_text, c.metadata)
      FROM next n WHERE c.id = n.id AND n.old IS DISTINCT FROM n.new
)
SELECT max(id) FROM next HAVING count(*) > 0
