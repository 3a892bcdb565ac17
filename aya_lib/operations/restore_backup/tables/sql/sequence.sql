-- Never back: only where it is behind what the backup had, or behind the keys that are there.
SELECT setval(%(name)s::regclass, %(least)s)
 WHERE %(least)s > coalesce(pg_sequence_last_value(%(name)s::regclass), 0)
