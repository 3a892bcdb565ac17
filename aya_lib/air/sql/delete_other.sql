-- A document here that the primary does not have under this id.
DELETE FROM documents WHERE id = %(id)s AND coalesce(extract(epoch FROM created_at)::text, '-') IS DISTINCT FROM %(made)s
