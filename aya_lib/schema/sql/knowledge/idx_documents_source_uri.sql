CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS idx_documents_source_uri ON documents (source_uri);
