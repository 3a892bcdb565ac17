SELECT count(*) FROM documents d
 WHERE source = %(source)s AND (%(content)s::text IS NULL OR content = %(content)s)
   AND (NOT %(embedded)s OR EXISTS (SELECT FROM chunks c WHERE c.document_id = d.id AND embedding IS NOT NULL))
