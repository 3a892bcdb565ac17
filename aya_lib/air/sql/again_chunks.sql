UPDATE chunks SET id = nextval(pg_get_serial_sequence('chunks', 'id')) WHERE document_id = %(document_id)s AND id > 0
