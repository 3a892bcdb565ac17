-- What a base backup of this server reads: who it is, its clock, how much, the tablespaces outside its data directory, since where
-- its WAL is summarized without a hole (null: it is not), and an archive_command of the site's own.
WITH summary AS (SELECT start_lsn, end_lsn, lag(end_lsn) OVER (ORDER BY end_lsn) AS before FROM pg_available_wal_summaries())
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
       pg_size_bytes(current_setting('wal_segment_size'))::bigint AS segment_bytes,
       (SELECT sum(pg_database_size(oid)) FROM pg_database)::bigint AS bytes,
       (SELECT coalesce(json_object_agg(oid::text, pg_tablespace_location(oid)), '{}') FROM pg_tablespace
         WHERE pg_tablespace_location(oid) ~ '^/') AS tablespaces,
       current_setting('summarize_wal') = 'on' AS summarizes,
       (SELECT max(start_lsn) FROM summary WHERE before IS DISTINCT FROM start_lsn)::text AS summarized_from,
       CASE WHEN current_setting('archive_mode') <> 'off' THEN current_setting('archive_command') ELSE '' END AS archive_command,
       clock_timestamp() AS at
