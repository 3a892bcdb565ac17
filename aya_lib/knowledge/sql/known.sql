-- Documents that came from the given files, or from anywhere below the given folders.
SELECT id, source_uri AS uri, content_hash AS hash, category
  FROM documents
 WHERE source_uri = ANY (%(uris)s)
    OR EXISTS (SELECT FROM unnest(%(folders)s::text[]) AS folder WHERE starts_with(source_uri, folder))
