UPDATE write_queue SET state = 'queued', reason = NULL WHERE id = %s AND state = 'dead' AND NOT synced RETURNING id
