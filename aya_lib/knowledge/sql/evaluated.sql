SELECT c.id, c.chunk_text AS text, coalesce(d.metadata ->> 'title', d.source, 'document ' || d.id) AS title,
       ARRAY(SELECT jsonb_array_elements_text(coalesce(c.metadata -> 'headings', '[]'))) AS headings,
       d.id AS document
  FROM chunks c JOIN documents d ON d.id = c.document_id
 WHERE c.embedding IS NOT NULL
 ORDER BY c.id
