-- A search as the application makes it: the nearest chunk to one that is there, with its document.
SELECT d.id
  FROM (SELECT document_id FROM public.chunks
         ORDER BY embedding <=> (SELECT embedding FROM public.chunks WHERE embedding IS NOT NULL LIMIT 1) LIMIT 1) AS c
  JOIN public.documents d ON d.id = c.document_id
