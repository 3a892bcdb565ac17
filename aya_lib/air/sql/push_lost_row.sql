WITH lost AS (
    UPDATE write_queue SET synced = true, state = 'conflict', reason = %(why)s WHERE id = %(id)s RETURNING data
)
INSERT INTO aya_sync.conflicts (kind, document) SELECT %(why)s, data FROM lost
