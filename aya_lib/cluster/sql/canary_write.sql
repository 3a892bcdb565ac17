-- An INSERT that gets as far as the unique index, and writes nothing: of the key of a row that nobody is changing.
INSERT INTO public.documents (id, content) OVERRIDING SYSTEM VALUE
SELECT id, 'aya canary' FROM (SELECT id FROM public.documents LIMIT 1 FOR SHARE SKIP LOCKED) AS one
ON CONFLICT DO NOTHING
