-- The lexemes of a question, each as a query, with the number of chunks that have it; counted by the index where ANALYZE has not
-- found it to be common, which is little work for a rare one.
WITH given AS (
    SELECT lexeme, bool_or(part) AS part
      FROM public.aya_words(%(text)s) AS w,
           LATERAL (SELECT unnest(tsvector_to_array(public.aya_terms(w.said) || coalesce(w.grams, '')::tsvector)), true
                    UNION ALL SELECT unnest(tsvector_to_array(public.aya_terms(%(text)s))), false) AS each (lexeme, part)
     GROUP BY lexeme
), common AS (
    SELECT e.lexeme, e.share
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = 'chunk_terms',
           unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs) AS e (lexeme, share)
     WHERE c.oid = 'chunks'::regclass
), rarest AS MATERIALIZED (
    SELECT ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery AS query, part, share,
           count(*) OVER () AS of
      FROM given LEFT JOIN common USING (lexeme)
     ORDER BY share NULLS FIRST, length(lexeme) DESC, lexeme
     LIMIT %(words)s
), size AS MATERIALIZED (
    -- As the planner has it: the rows a page of the last ANALYZE, and the pages of today; a small table is counted.
    SELECT CASE WHEN reltuples > 0 AND relpages > 0 AND pages > %(counted)s THEN reltuples / relpages * pages
                ELSE (SELECT count(*) FROM chunks) END::float AS chunks
      FROM pg_class, LATERAL (SELECT pg_relation_size(oid) / current_setting('block_size')::int AS pages) AS today
     WHERE oid = 'chunks'::regclass
), counted AS MATERIALIZED (
    SELECT query::text, part, of, size.chunks AS size,
           CASE WHEN share IS NOT NULL THEN share * size.chunks
                ELSE (SELECT count(*) FROM (SELECT FROM chunks WHERE chunk_terms @@ query LIMIT %(most)s) AS having_it) END AS chunks
      FROM rarest, size
)
SELECT query, part, chunks, ln(1 + (greatest(size, max(chunks) OVER ()) - chunks + 0.5) / (chunks + 0.5)) AS idf, of
  FROM counted ORDER BY chunks, query
