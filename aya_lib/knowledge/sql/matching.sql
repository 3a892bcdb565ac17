-- Candidates: chunks with all of the words, those with the rarest, and, where these are too few, those with any; so that the
-- work does not grow with the table. Ranked by the sum over the words of how rare one is and how much the chunk has of it.
-- What is added to the terms brings them into memory once, and not for every word.
WITH complete AS MATERIALIZED (
    SELECT c.id FROM chunks c {join} WHERE c.chunk_terms @@ %(every)s::tsquery {required} {filters} LIMIT %(ranked)s
), rare AS MATERIALIZED (
    SELECT c.id FROM chunks c {join} WHERE c.chunk_terms @@ %(rarest)s::tsquery {required} {filters} LIMIT %(ranked)s
), few AS MATERIALIZED (
    SELECT c.id FROM chunks c {join}
     WHERE (SELECT count(*) FROM (SELECT id FROM complete UNION SELECT id FROM rare) AS found) < %(depth)s
       AND c.chunk_terms @@ %(any)s::tsquery {required} {filters} LIMIT %(ranked)s
), terms AS MATERIALIZED (
    SELECT c.id, c.chunk_terms || ''::tsvector AS terms
      FROM (SELECT id FROM complete UNION SELECT id FROM rare UNION SELECT id FROM few) AS found JOIN chunks c USING (id)
), scored AS (
    SELECT t.id, (SELECT sum(w.idf * ts_rank(%(weights)s::real[], t.terms, w.query::tsquery))
                    FROM unnest(%(queries)s::text[], %(idfs)s::float[]) AS w (query, idf)) AS score
      FROM terms t
)
SELECT id, score, row_number() OVER (ORDER BY score DESC, id) AS rank FROM scored ORDER BY score DESC, id LIMIT %(depth)s
