-- Bytes from the beginning of an index's file, as they are on disk. Superuser, or pg_read_server_files with a grant.
SELECT pg_read_binary_file(pg_relation_filepath(%(index)s::regclass), 0, %(bytes)s)
