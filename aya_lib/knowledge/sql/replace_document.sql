UPDATE documents
   SET content = %(content)s, metadata = %(metadata)s, category = coalesce(%(category)s, category), source = %(source)s,
       source_uri = %(uri)s, content_hash = %(hash)s, updated_at = now()
 WHERE id = %(id)s
