CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE IF NOT EXISTS documents (
    id serial PRIMARY KEY,
    content text NOT NULL,
    metadata jsonb DEFAULT '{{}}',
    category varchar(50) DEFAULT 'general',
    source varchar(100),
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now()
);
CREATE INDEX IF NOT EXISTS idx_documents_category ON documents (category);
CREATE INDEX IF NOT EXISTS idx_documents_created_at ON documents (created_at DESC);

CREATE TABLE IF NOT EXISTS chunks (
    id serial PRIMARY KEY,
    document_id integer REFERENCES documents (id) ON DELETE CASCADE,
    chunk_text text NOT NULL,
    embedding vector({dimension}),
    chunk_index integer DEFAULT 0,
    metadata jsonb DEFAULT '{{}}',
    created_at timestamp DEFAULT now()
);
CREATE INDEX IF NOT EXISTS idx_chunks_document_id ON chunks (document_id);
