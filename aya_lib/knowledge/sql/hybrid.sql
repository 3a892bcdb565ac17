-- Fused by what the lists say and not by ranks alone: similarity from 0 (the last of the first %(scaled)s) to 1 (the nearest),
-- words from 0 to 1 (the best), together as Bruch et al. (An Analysis of Fusion Functions for Hybrid Retrieval, TOIS 2023) do.
-- A document may say it in two chunks: its best one has the best of both lists, so that documents are compared as wholes.
WITH nearest AS MATERIALIZED ({nearest}),
     matching AS MATERIALIZED ({matching}),
     near AS (
         SELECT id, rank, CASE WHEN last > first THEN greatest(0, (last - distance) / (last - first)) ELSE 1 END AS part
           FROM (SELECT id, distance, row_number() OVER (ORDER BY distance, id) AS rank FROM nearest) AS n,
                (SELECT min(distance) AS first, max(distance) AS last
                   FROM (SELECT distance FROM nearest ORDER BY distance LIMIT %(scaled)s) AS most) AS scale
     ),
     said AS (SELECT id, rank, coalesce(score / nullif(max(score) OVER (), 0), 0) AS part FROM matching),
     both_lists AS (
         SELECT id, c.document_id, n.rank AS vector_rank, s.rank AS text_rank,
                (1 - %(words)s) * coalesce(n.part, 0) AS near, %(words)s * coalesce(s.part, 0) AS said
           FROM near n FULL JOIN said s USING (id) JOIN chunks c USING (id)
     ),
     placed AS (
         SELECT *, max(near) OVER document + max(said) OVER document AS whole,
                row_number() OVER (PARTITION BY document_id ORDER BY near + said DESC, id) AS place
           FROM both_lists WINDOW document AS (PARTITION BY document_id)
     ),
     fused AS (
         SELECT id, vector_rank, text_rank, CASE place WHEN 1 THEN whole ELSE near + said END AS score
           FROM placed ORDER BY score DESC, id LIMIT %(limit)s
     )
SELECT c.id AS chunk_id, c.document_id, c.chunk_text AS content, 1 - (c.embedding <=> %(vector)s) AS similarity,
       f.vector_rank, f.text_rank, f.score, d.category, d.source,
       coalesce(d.metadata, '{{}}') || coalesce(c.metadata, '{{}}') AS metadata
  FROM fused f JOIN chunks c USING (id) JOIN documents d ON d.id = c.document_id
 ORDER BY f.score DESC, c.id
