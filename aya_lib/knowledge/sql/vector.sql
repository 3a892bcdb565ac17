WITH nearest AS MATERIALIZED ({nearest}),
     ranked AS (SELECT id, row_number() OVER (ORDER BY distance, id) AS rank FROM nearest)
SELECT c.id AS chunk_id, c.document_id, c.chunk_text AS content, 1 - n.distance AS similarity, r.rank AS vector_rank,
       NULL::bigint AS text_rank, 1 - n.distance AS score, d.category, d.source,
       coalesce(d.metadata, '{{}}') || coalesce(c.metadata, '{{}}') AS metadata
  FROM ranked r JOIN nearest n USING (id) JOIN chunks c USING (id) JOIN documents d ON d.id = c.document_id
 ORDER BY r.rank
 LIMIT %(limit)s
