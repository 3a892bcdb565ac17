-- What is measured on, in the server's own words; sizes in bytes.
SELECT %(node)s AS node, current_setting('server_version') AS version,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
       pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers,
       pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       current_setting('max_parallel_maintenance_workers')::int AS parallel_maintenance, %(cores)s::int AS cores
