-- The nearest to a chunk, as an application searches: by the index, with the settings of a careful search.
SET enable_seqscan = off; SET ivfflat.probes = 100; SET hnsw.ef_search = 200;
SELECT coalesce(json_agg(id), '[]')::text FROM (
  SELECT id FROM public.chunks WHERE embedding IS NOT NULL
   ORDER BY embedding <=> (SELECT embedding FROM public.chunks WHERE id = {probe}) LIMIT {limit}) AS near
