UPDATE chunks
   SET chunk_text = %(text)s, embedding = %(vector)s, metadata = metadata || jsonb_build_object('headings', %(headings)s::text[]),
       chunk_terms = public.aya_chunk_terms(%(text)s, metadata || jsonb_build_object('headings', %(headings)s::text[]))
 WHERE id = %(id)s
