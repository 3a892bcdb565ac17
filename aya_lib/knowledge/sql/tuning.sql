-- What the vector index of the chunks is, and what was decided for searching it, all as of one moment.
-- own: somebody set it in this session (what this library set itself is marked by a setting of the same value).
-- role: of the role or the database, read here and not from the session, which may have begun before it was changed.
WITH index AS (
    SELECT am.amname AS method, split_part(o.opcname, '_', 1) AS kind, nullif(a.atttypmod, -1) AS dimension, i.reloptions
      FROM pg_index x
      JOIN pg_class i ON i.oid = x.indexrelid
      JOIN pg_am am ON am.oid = i.relam
      JOIN pg_opclass o ON o.oid = x.indclass[0]
      JOIN pg_attribute a ON a.attrelid = i.oid AND a.attnum = 1
     WHERE x.indrelid = to_regclass('chunks') AND x.indisvalid AND x.indpred IS NULL
       AND o.opcname IN ('vector_cosine_ops', 'halfvec_cosine_ops', 'bit_hamming_ops')
     ORDER BY i.relname = 'idx_chunks_embedding' DESC, i.oid
     LIMIT 1
), role AS (
    SELECT DISTINCT ON (1) split_part(line, '=', 1) AS name, split_part(line, '=', 2)::int AS value
      FROM pg_db_role_setting s, unnest(s.setconfig) AS line
     WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
       AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
       AND split_part(line, '=', 1) IN ('ivfflat.probes', 'hnsw.ef_search')
     ORDER BY 1, s.setrole <> 0 DESC, s.setdatabase <> 0 DESC
), session AS MATERIALIZED (
    SELECT name, setting::int AS value, nullif(reset_val, boot_val)::int AS configured,
           source IN ('client', 'session')
               AND setting IS DISTINCT FROM current_setting('aya.' || replace(name, '.', '_'), true) AS own
      FROM pg_settings WHERE name IN ('ivfflat.probes', 'hnsw.ef_search')
)
SELECT (SELECT method FROM index) AS method,
       (SELECT kind FROM index) AS kind,
       (SELECT dimension FROM index) AS dimension,
       (SELECT option_value::int FROM index, pg_options_to_table(reloptions) WHERE option_name = 'lists') AS lists,
       (SELECT value FROM session WHERE own AND name = 'ivfflat.probes') AS own_probes,
       (SELECT value FROM session WHERE own AND name = 'hnsw.ef_search') AS own_ef_search,
       (SELECT value FROM role WHERE name = 'ivfflat.probes') AS role_probes,
       (SELECT value FROM role WHERE name = 'hnsw.ef_search') AS role_ef_search,
       (SELECT (value ->> 'probes')::int FROM aya_settings WHERE key = 'search') AS chosen_probes,
       (SELECT (value ->> 'ef_search')::int FROM aya_settings WHERE key = 'search') AS chosen_ef_search,
       (SELECT configured FROM session WHERE name = 'ivfflat.probes') AS configured_probes,
       (SELECT configured FROM session WHERE name = 'hnsw.ef_search') AS configured_ef_search,
       (SELECT obj_description(tgfoid, 'pg_proc') FROM pg_trigger
         WHERE tgrelid = to_regclass('public.chunks') AND tgname = 'chunks_terms') AS words
