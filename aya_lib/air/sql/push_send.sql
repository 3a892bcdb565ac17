SELECT outcome, document_id, document_version, reason
  FROM aya_sync.push(%(client)s::uuid, %(mutation)s::uuid, %(operation)s::text, %(document_id)s::int, %(base_version)s::bigint,
                     %(document)s::jsonb, %(chunks)s::jsonb)
