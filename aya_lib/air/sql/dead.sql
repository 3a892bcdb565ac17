SELECT d.id, to_char(d.created_at, 'YYYY-MM-DD HH24:MI:SS') AS at, d.operation, d.document_id, d.reason,
       (SELECT count(*) FROM write_queue l WHERE l.document_id = d.document_id AND NOT l.synced AND l.id > d.id)::int AS held
  FROM write_queue d WHERE d.state = 'dead' AND NOT d.synced ORDER BY d.id
