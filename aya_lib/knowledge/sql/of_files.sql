-- The documents that came from the given files, each with its longest chunk, one that has a vector before others.
SELECT d.id, d.source_uri AS uri, coalesce(d.content_hash, '') AS hash,
       coalesce((SELECT c.chunk_text FROM chunks c WHERE c.document_id = d.id
                  ORDER BY c.embedding IS NULL, length(c.chunk_text) DESC LIMIT 1), '') AS longest
  FROM documents d
 WHERE d.source_uri = ANY (%(uris)s)
