-- Documents of the primary that wait to be pushed. here: not deleted on the laptop; made: when, whatever was put into the queue.
SELECT q.document_id AS id, d.id IS NOT NULL AS here, (array_agg(q.base_version ORDER BY q.id))[1] AS base,
       coalesce(extract(epoch FROM coalesce(d.created_at, max(CASE WHEN pg_input_is_valid(q.data ->> 'created_at', 'timestamp')
                                                                   THEN (q.data ->> 'created_at')::timestamp END)))::text, '-') AS made
  FROM write_queue q LEFT JOIN documents d ON d.id = q.document_id
 WHERE NOT q.synced AND q.document_id > 0 GROUP BY q.document_id, d.id, d.created_at
