SELECT {columns} FROM chunks WHERE id = ANY ({chunks}::int[]) OR document_id = ANY ({whole}::int[])
