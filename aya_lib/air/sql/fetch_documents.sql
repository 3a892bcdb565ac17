SELECT {columns} FROM documents WHERE id = ANY ({documents}::int[])
