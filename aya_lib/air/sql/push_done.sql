UPDATE write_queue
   SET synced = true, state = 'done', reason = NULL, document_id = %(new_id)s, system_identifier = %(system_identifier)s,
       timeline = %(timeline)s, lsn = %(lsn)s
 WHERE id = %(id)s
