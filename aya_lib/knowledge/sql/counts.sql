SELECT count(*) AS chunks,
       count(*) FILTER (WHERE embedding IS NULL) AS without_vector,
       count(*) FILTER (WHERE chunk_terms IS NULL) AS without_words
  FROM chunks
