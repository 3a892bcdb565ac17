-- Documents whose present version is not a push of this laptop, of those changed since it last wrote here.
SELECT DISTINCT d.id FROM aya_sync.changes c JOIN documents d ON d.id = c.row_id
 WHERE c.relation = 'd'
   AND NOT EXISTS (SELECT FROM aya_sync.clients l WHERE l.client = %(client)s AND pg_visible_in_snapshot(c.xid, l.reached))
   AND NOT EXISTS (SELECT FROM aya_sync.mutations m WHERE m.client = %(client)s AND m.document_id = d.id AND m.version = d.version)
