-- What a clone of this server moves, what is prepared and not decided here, and whether the role %(role)s may read its files as
-- pg_rewind does. A tablespace that lies in the data directory is copied with it.
SELECT (SELECT sum(pg_database_size(oid)) FROM pg_database)::bigint AS bytes,
       (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir())::bigint AS wal_bytes,
       (SELECT count(*) FROM pg_tablespace WHERE pg_tablespace_location(oid) ~ '^/')::int AS tablespaces,
       (SELECT coalesce(json_object_agg(transaction::text, gid), '{}') FROM pg_prepared_xacts) AS prepared,
       (SELECT bool_and(has_function_privilege(%(role)s, f, 'EXECUTE'))
          FROM unnest(ARRAY['pg_catalog.pg_ls_dir(text, boolean, boolean)',
                            'pg_catalog.pg_stat_file(text, boolean)',
                            'pg_catalog.pg_read_binary_file(text)',
                            'pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)']) AS f) AS readable
