SELECT count(*) FILTER (WHERE NOT synced AND state = 'queued')::int AS queued,
       count(*) FILTER (WHERE NOT synced AND state = 'queued' AND needs_chunks)::int AS without_chunks,
       count(*) FILTER (WHERE NOT synced AND state = 'dead')::int AS dead,
       (SELECT count(*) FROM aya_sync.conflicts WHERE NOT seen)::int AS conflicts,
       (SELECT count(*) FROM aya_sync.refetch)::int AS to_fetch,
       (SELECT extract(epoch FROM now() - synced_at)::float FROM aya_sync.laptop) AS synced_s,
       (SELECT phase = 'ready' FROM aya_sync.laptop) AS complete
  FROM write_queue
