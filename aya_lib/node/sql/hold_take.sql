SELECT pg_try_advisory_lock(24953, %(key)s)
