-- What the archiver has still to do before an orderly stop, for how long (seconds), and what it does now.
SELECT count(f.name)::int AS segments,
       coalesce(extract(epoch FROM clock_timestamp() - min(f.modification)), 0)::float8 AS oldest_s,
       EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'archiver' AND wait_event = 'ArchiveCommand') AS running
  FROM (SELECT) AS one
  LEFT JOIN pg_ls_archive_statusdir() f ON f.name LIKE '%%.ready' AND current_setting('archive_mode') <> 'off'
