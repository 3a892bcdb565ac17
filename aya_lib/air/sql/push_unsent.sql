-- Whether a document of the primary waits whose next mutation may still be sent.
SELECT EXISTS (SELECT FROM write_queue q
                WHERE NOT q.synced AND q.state = 'queued' AND q.document_id > 0 AND q.id <> ALL (%(but)s::int[])
                  AND NOT EXISTS (SELECT FROM write_queue b WHERE b.document_id = q.document_id AND NOT b.synced AND b.id < q.id))
