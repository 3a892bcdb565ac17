-- Slots beside the site's own that nobody reads: each holds WAL on the disk, and a logical one keeps old rows as well.
SELECT slot_name AS name,
       slot_type AS kind,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint AS bytes,
       coalesce(to_char(inactive_since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), '') AS since
  FROM pg_replication_slots
 WHERE NOT active AND NOT temporary AND slot_name <> %(own)s AND restart_lsn IS NOT NULL
 ORDER BY 3 DESC, 1
