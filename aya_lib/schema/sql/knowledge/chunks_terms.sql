-- A trigger and not a generated column: adding that would rewrite the table while nobody can read it.
ALTER TABLE chunks ADD COLUMN IF NOT EXISTS chunk_terms tsvector;
CREATE OR REPLACE TRIGGER chunks_terms BEFORE INSERT OR UPDATE OF chunk_text ON chunks
    FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger(chunk_terms, 'pg_catalog.{language}', chunk_text);
