-- Reciprocal rank fusion: score = sum of 1 / (60 + rank) over the lists (Cormack, Clarke, Buettcher, SIGIR 2009).
WITH nearest AS MATERIALIZED ({nearest}),
     matching AS MATERIALIZED ({matching}),
     lists AS (
         SELECT id, row_number() OVER (ORDER BY distance, id) AS vector_rank, NULL::bigint AS text_rank FROM nearest
         UNION ALL
         SELECT id, NULL, rank FROM matching
     ),
     fused AS (
         SELECT id, max(vector_rank) AS vector_rank, max(text_rank) AS text_rank,
                sum(1.0::float / (60 + coalesce(vector_rank, text_rank))) AS score
           FROM lists GROUP BY id ORDER BY score DESC, id LIMIT %(limit)s
     )
SELECT c.id AS chunk_id, c.document_id, c.chunk_text AS content, 1 - (c.embedding <=> %(vector)s) AS similarity,
       f.vector_rank, f.text_rank, f.score, d.category, d.source,
       coalesce(d.metadata, '{{}}') || coalesce(c.metadata, '{{}}') AS metadata
  FROM fused f JOIN chunks c USING (id) JOIN documents d ON d.id = c.document_id
 ORDER BY f.score DESC, c.id
