-- Documents by number, by the file they came from, or from anywhere below a folder. %(start)s: characters of the text, or all.
SELECT d.id, coalesce(d.metadata ->> 'title', '') AS title, d.category, coalesce(d.source, '') AS source, d.source_uri AS uri,
       coalesce(d.metadata ->> 'kind', 'text') AS kind, length(d.content) AS characters, c.chunks, c.unread,
       coalesce(d.metadata -> 'lost', '[]') AS lost, d.updated_at, left(d.content, coalesce(%(start)s, length(d.content))) AS text
  FROM documents d
 CROSS JOIN LATERAL (SELECT count(*) AS chunks, count(*) FILTER (WHERE embedding IS NULL) AS unread
                       FROM chunks WHERE document_id = d.id) AS c
 WHERE (%(every)s OR d.id = ANY (%(ids)s) OR d.source_uri = ANY (%(uris)s)
        OR EXISTS (SELECT FROM unnest(%(uris)s::text[]) AS folder WHERE starts_with(d.source_uri, folder || '/')))
   AND (%(category)s::text IS NULL OR d.category = %(category)s)
 ORDER BY d.source_uri NULLS LAST, d.id
 LIMIT %(most)s
