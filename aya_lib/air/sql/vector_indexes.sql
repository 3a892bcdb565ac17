-- The vector indexes of the chunks that can be used, and how each is made.
SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS made
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
 WHERE i.indrelid = 'public.chunks'::regclass AND m.amname IN ('ivfflat', 'hnsw') AND i.indisvalid
