SELECT to_regclass('public.documents') IS NOT NULL AND to_regclass('public.chunks') IS NOT NULL
       AND to_regclass('public.write_queue') IS NOT NULL AS tables,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector
