-- How far back the primary's own WAL goes. Recycled files carry names that are still to come, so the lowest one counts.
SELECT (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') AS segment_bytes,
       (SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' ORDER BY substr(name, 9) LIMIT 1) AS oldest
