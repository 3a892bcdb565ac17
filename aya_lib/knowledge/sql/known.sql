-- Documents that came from somewhere; what could not be read of them is said again whenever they are passed.
SELECT id, source_uri AS uri, content_hash AS hash, category, metadata ->> 'title' AS title,
       coalesce(metadata -> 'lost', '[]') AS lost
  FROM documents
 WHERE source_uri IS NOT NULL
