UPDATE write_queue SET synced = false, state = 'queued', attempts = 1, chunks_changed = true, lsn = NULL WHERE id = %(id)s
