-- Built after the first rows: an IVFFlat index takes its centroids from the rows that are there.
CREATE INDEX IF NOT EXISTS idx_chunks_embedding ON chunks USING ivfflat (embedding vector_cosine_ops) WITH (lists = 100);
