-- Commits of a canary that wait for a standby although whoever asked has long been gone: he would have cancelled them.
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
 WHERE query = %(commit)s AND wait_event = 'SyncRep' AND query_start < clock_timestamp() - make_interval(secs => %(older_s)s)
