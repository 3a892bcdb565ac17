-- What a build can have on this server, and what the server's configuration says of searching.
SELECT pg_is_in_recovery() AS in_recovery,
       pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       current_setting('max_parallel_maintenance_workers')::int AS workers,
       to_regclass('aya_settings') IS NOT NULL AS settings_table,
       (SELECT setting::int FROM pg_settings WHERE name = 'ivfflat.probes' AND source IN ('configuration file', 'command line'))
           AS configured_probes,
       (SELECT setting::int FROM pg_settings WHERE name = 'hnsw.ef_search' AND source IN ('configuration file', 'command line'))
           AS configured_ef_search
