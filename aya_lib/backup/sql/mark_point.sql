-- A named restore point: where it is, on which timeline, and the server's clock there.
SELECT ('x' || left(pg_walfile_name(lsn), 8))::bit(32)::int, lsn::text, clock_timestamp()
  FROM pg_create_restore_point(%(name)s) AS lsn
