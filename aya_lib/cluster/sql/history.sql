-- Where each earlier timeline of this server ended: the history file of the timeline it writes or replays.
SELECT pg_read_file('pg_wal/' || upper(lpad(to_hex(%(timeline)s::int), 8, '0')) || '.history', true) AS text
