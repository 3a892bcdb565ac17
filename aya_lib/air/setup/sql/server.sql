-- Of a laptop's server, asked in the database postgres. trusting: rules of pg_hba.conf that ask for no password.
SELECT current_setting('server_version_num')::int / 10000 AS version, pg_is_in_recovery() AS in_recovery,
       current_setting('listen_addresses') AS listens,
       (SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust')::int AS trusting,
       EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s) AS has_role,
       EXISTS (SELECT FROM pg_database WHERE datname = %(database)s) AS has_database
