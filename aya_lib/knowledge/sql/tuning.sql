-- What the vector index is, and what the database, the role or the tuning chose for searching it.
SELECT (SELECT am.amname FROM pg_class i JOIN pg_am am ON am.oid = i.relam WHERE i.oid = to_regclass('idx_chunks_embedding'))
           AS method,
       (SELECT option_value::int FROM pg_class i, pg_options_to_table(i.reloptions)
         WHERE i.oid = to_regclass('idx_chunks_embedding') AND option_name = 'lists') AS lists,
       (SELECT setting::int FROM pg_settings WHERE name = 'ivfflat.probes' AND source <> 'default') AS probes,
       (SELECT setting::int FROM pg_settings WHERE name = 'hnsw.ef_search' AND source <> 'default') AS ef_search,
       (SELECT (value ->> 'probes')::int FROM aya_settings WHERE key = 'search') AS chosen_probes,
       (SELECT (value ->> 'ef_search')::int FROM aya_settings WHERE key = 'search') AS chosen_ef_search
