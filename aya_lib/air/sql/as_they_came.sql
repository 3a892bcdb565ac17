-- What a trigger of somebody's own changed again here, or kept out: as it was sent, past the triggers. References are not checked
-- in such a session: a chunk without its document has gone from what came.
SET LOCAL session_replication_role = replica;
INSERT INTO documents ({documents}) SELECT {documents} FROM incoming_documents i
 WHERE NOT EXISTS (SELECT FROM documents d WHERE d.id = i.id AND ROW ({d_documents})::text = ROW ({i_documents})::text)
    ON CONFLICT (id) DO UPDATE SET {set_documents};
INSERT INTO chunks ({chunks}) SELECT {chunks} FROM incoming_chunks i
 WHERE NOT EXISTS (SELECT FROM chunks c WHERE c.id = i.id AND c.embedding IS NOT DISTINCT FROM i.embedding
                                          AND ROW ({c_rest})::text = ROW ({i_rest})::text)
    ON CONFLICT (id) DO UPDATE SET {set_chunks};
SET LOCAL session_replication_role = origin;
