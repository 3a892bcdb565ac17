CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_chunks_terms ON chunks USING gin (chunk_terms);
