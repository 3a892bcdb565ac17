-- What a base backup of this server reads: who it is, its clock, how much, and the tablespaces outside its data directory.
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
       pg_size_bytes(current_setting('wal_segment_size'))::bigint AS segment_bytes,
       (SELECT sum(pg_database_size(oid)) FROM pg_database)::bigint AS bytes,
       (SELECT coalesce(json_object_agg(oid::text, pg_tablespace_location(oid)), '{}') FROM pg_tablespace
         WHERE pg_tablespace_location(oid) ~ '^/') AS tablespaces,
       current_setting('summarize_wal') = 'on' AS summarizes,
       clock_timestamp() AS at
