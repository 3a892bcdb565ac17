-- Standbys that stream and have not yet replayed a position.
SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn < %(lsn)s::pg_lsn
