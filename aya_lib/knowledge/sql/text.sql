WITH matching AS MATERIALIZED ({matching})
SELECT c.id AS chunk_id, c.document_id, c.chunk_text AS content, 1 - (c.embedding <=> %(vector)s) AS similarity,
       NULL::bigint AS vector_rank, m.rank AS text_rank, m.score, d.category, d.source,
       coalesce(d.metadata, '{{}}') || coalesce(c.metadata, '{{}}') AS metadata
  FROM matching m JOIN chunks c USING (id) JOIN documents d ON d.id = c.document_id
 ORDER BY m.rank
 LIMIT %(limit)s
