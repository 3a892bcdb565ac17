-- The newest chunk with a vector, and the ids of the ten nearest to it; exact where the session's index scans are off.
WITH probe AS (SELECT id, embedding FROM public.chunks WHERE embedding IS NOT NULL ORDER BY id DESC LIMIT 1)
SELECT json_build_array((SELECT id FROM probe),
                        coalesce((SELECT json_agg(id) FROM (SELECT c.id FROM public.chunks c, probe p WHERE c.embedding IS NOT NULL
                                                             ORDER BY c.embedding <=> p.embedding, c.id LIMIT 10) AS near),
                                 '[]'))::text
