SELECT {columns} FROM documents
 WHERE id = ANY ({documents}::int[]) OR id IN (SELECT c.document_id FROM chunks c WHERE c.id = ANY ({chunks}::int[]))
