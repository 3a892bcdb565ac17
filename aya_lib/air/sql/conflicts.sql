SELECT id::int, to_char(at, 'YYYY-MM-DD HH24:MI:SS TZ') AS at, kind, document_id, left(document ->> 'content', 60) AS begins,
       coalesce(jsonb_array_length(chunks), 0) AS chunks
  FROM aya_sync.conflicts ORDER BY id DESC
