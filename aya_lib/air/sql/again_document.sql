WITH local AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('documents', 'id'))::int AS id
), moved AS (
    UPDATE documents d SET id = local.id FROM local WHERE d.id = %(document_id)s
)
UPDATE write_queue q SET document_id = local.id FROM local WHERE q.document_id = %(document_id)s AND q.id >= %(id)s
