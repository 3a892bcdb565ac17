INSERT INTO aya_sync.clients (client, name, applied) VALUES (%(client)s, %(name)s, nullif(%(applied)s, 'None')::pg_snapshot)
    ON CONFLICT (client) DO UPDATE SET name = excluded.name, applied = excluded.applied, seen_at = now()
