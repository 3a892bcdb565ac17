-- What the snapshot did not see and this one does: no transaction is passed over because it committed late.
SELECT xid::text::bigint, relation::text, row_id FROM aya_sync.changes
 WHERE xid >= pg_snapshot_xmin(%(old)s::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, %(old)s::pg_snapshot)
 ORDER BY changes.xid
