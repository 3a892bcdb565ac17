UPDATE documents
   SET source_uri = %(uri)s, source = %(source)s, metadata = coalesce(metadata, '{}') || jsonb_build_object('path', %(path)s::text),
       updated_at = now()
 WHERE id = %(id)s
