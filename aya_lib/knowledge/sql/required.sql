-- What a chunk must have, and what it must not have: each phrase as its lexemes one after another.
WITH given AS (
    SELECT 1 AS sign, phrase, number FROM unnest(%(phrases)s::text[]) WITH ORDINALITY AS p (phrase, number)
    UNION ALL
    SELECT -1, phrase, number FROM unnest(%(without)s::text[]) WITH ORDINALITY AS p (phrase, number)
), lexemes AS (
    SELECT DISTINCT ON (g.sign, g.number, place) g.sign, g.number, place,
           '''' || replace(replace(t.lexeme, '\', '\\'), '''', '''''') || '''' AS lexeme
      FROM given g, public.aya_words(g.phrase) AS w,
           unnest(public.aya_terms(w.said) || coalesce(w.grams, '')::tsvector) AS t, unnest(t.positions) AS place
     ORDER BY g.sign, g.number, place, length(t.lexeme) DESC
), placed AS (
    SELECT *, place - lag(place) OVER (PARTITION BY sign, number ORDER BY place) AS after FROM lexemes
), phrases AS (
    SELECT sign, string_agg(coalesce(' <' || after || '> ', '') || lexeme, '' ORDER BY place) AS query
      FROM placed GROUP BY sign, number
)
SELECT string_agg(CASE sign WHEN 1 THEN '(' ELSE '!(' END || query || ')', ' & ') FROM phrases
