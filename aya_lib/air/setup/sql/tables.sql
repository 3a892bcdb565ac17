SELECT to_regclass('public.documents') IS NOT NULL AND to_regclass('public.chunks') IS NOT NULL
       AND to_regclass('public.write_queue') IS NOT NULL
