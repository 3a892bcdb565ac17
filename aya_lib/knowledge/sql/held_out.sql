CREATE TEMP TABLE chunks (LIKE public.chunks INCLUDING DEFAULTS);
INSERT INTO chunks SELECT * FROM public.chunks;
ALTER TABLE chunks ADD PRIMARY KEY (id);
CREATE INDEX ON chunks USING gin (chunk_terms)
