-- What of the knowledge base's schema is there. Reads catalogs only.
SELECT to_regclass('documents') IS NOT NULL AND to_regclass('chunks') IS NOT NULL AS tables,
       (SELECT count(*) = 2 FROM pg_attribute
         WHERE attrelid = to_regclass('documents') AND attname IN ('source_uri', 'content_hash') AND NOT attisdropped)
           AS documents_source_uri,
       EXISTS (SELECT FROM pg_attribute
                WHERE attrelid = to_regclass('chunks') AND attname = 'chunk_terms' AND NOT attisdropped)
           AND EXISTS (SELECT FROM pg_trigger
                        WHERE tgrelid = to_regclass('chunks') AND tgname = 'chunks_terms' AND tgenabled = 'A'
                          AND obj_description(tgfoid, 'pg_proc') = %(words)s)
           AS chunks_terms,
       to_regclass('aya_settings') IS NOT NULL AS aya_settings,
       (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('idx_documents_source_uri')) AS idx_documents_source_uri,
       (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('idx_chunks_terms')) AS idx_chunks_terms,
       (SELECT atttypmod FROM pg_attribute
         WHERE attrelid = to_regclass('chunks') AND attname = 'embedding' AND NOT attisdropped) AS dimension,
       (SELECT col_description(attrelid, attnum) FROM pg_attribute
         WHERE attrelid = to_regclass('chunks') AND attname = 'chunk_terms' AND NOT attisdropped)
           IS DISTINCT FROM %(words)s AS unfilled,
       (SELECT obj_description(tgfoid, 'pg_proc') FROM pg_trigger
         WHERE tgrelid = to_regclass('chunks') AND tgname = 'chunks_terms') AS words
