CREATE TEMPORARY TABLE named (relation "char", row_id integer) ON COMMIT DROP;
CREATE TEMPORARY TABLE incoming_documents (LIKE documents) ON COMMIT DROP;
CREATE TEMPORARY TABLE incoming_chunks (LIKE chunks) ON COMMIT DROP;
