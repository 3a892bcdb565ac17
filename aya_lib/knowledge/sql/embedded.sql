-- The next chunks that have a vector, with what stands above their text.
SELECT id, chunk_text, metadata ->> 'title' AS title,
       CASE jsonb_typeof(metadata -> 'headings') WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(metadata -> 'headings'))
            ELSE '{}' END AS headings
  FROM chunks
 WHERE id > %(after)s AND embedding IS NOT NULL AND (%(longest)s::int IS NULL OR length(chunk_text) < %(longest)s)
 ORDER BY id LIMIT %(most)s
