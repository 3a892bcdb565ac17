-- Chunks with any of the words; those with all of them first, then by cover density (words near each other count more).
SELECT c.id,
       row_number() OVER (ORDER BY c.chunk_terms @@ {every} DESC, ts_rank_cd(c.chunk_terms, {any}, 1) DESC, c.id) AS rank
  FROM chunks c {join}
 WHERE c.chunk_terms @@ {any} {filters}
 ORDER BY 2
 LIMIT %(depth)s
