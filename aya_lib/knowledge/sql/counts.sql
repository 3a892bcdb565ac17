-- A chunk without a vector that says why is as it should be: it is found by its words.
SELECT count(*) AS chunks,
       count(*) FILTER (WHERE embedding IS NULL AND NOT coalesce(metadata, '{}') ? 'no_vector') AS without_vector,
       count(*) FILTER (WHERE chunk_terms IS NULL) AS without_words
  FROM chunks
