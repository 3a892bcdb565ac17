-- Documents that these rows touch, and whose turn it is not: they wait to be pushed, or somebody is writing them right now.
-- Locking the others keeps writers away until the end; a document that is not there cannot be written by anybody.
ANALYZE named;
-- next
CREATE TEMPORARY TABLE touched ON COMMIT DROP AS
    SELECT row_id AS id FROM named WHERE relation = 'd'
    UNION SELECT id FROM incoming_documents
    UNION SELECT document_id FROM incoming_chunks WHERE document_id IS NOT NULL
    UNION SELECT c.document_id FROM chunks c JOIN named n ON n.relation = 'c' AND n.row_id = c.id WHERE c.document_id IS NOT NULL;
-- next
CREATE TEMPORARY TABLE locked ON COMMIT DROP AS
    SELECT d.id FROM documents d WHERE d.id IN (SELECT id FROM touched) FOR UPDATE SKIP LOCKED;
-- next
CREATE TEMPORARY TABLE skipped ON COMMIT DROP AS
    SELECT t.id FROM touched t
     WHERE EXISTS (SELECT FROM write_queue q WHERE NOT q.synced AND q.document_id = t.id)
        OR (EXISTS (SELECT FROM documents d WHERE d.id = t.id) AND NOT EXISTS (SELECT FROM locked l WHERE l.id = t.id));
-- next
-- And whose unique value such a document still has, or one that waits.
INSERT INTO skipped SELECT DISTINCT i.id FROM incoming_documents i JOIN documents d ON {same} AND d.id <> i.id
 WHERE i.id NOT IN (SELECT id FROM skipped) AND (d.id > 0 OR d.source_uri IS DISTINCT FROM i.source_uri)
   AND (d.id IN (SELECT id FROM skipped) OR EXISTS (SELECT FROM write_queue q WHERE NOT q.synced AND q.document_id = d.id));
-- next
DELETE FROM incoming_chunks WHERE document_id IN (SELECT id FROM skipped);
DELETE FROM incoming_documents WHERE id IN (SELECT id FROM skipped);
-- next
-- A document made here with the source_uri of one that comes: the primary's stands.
SELECT aya_sync.lose(d.id, 'the same source_uri is on the primary already')
  FROM documents d JOIN incoming_documents i USING (source_uri) WHERE d.id < 0;
-- next
DELETE FROM documents d USING named n
 WHERE n.relation = 'd' AND n.row_id = d.id AND d.id NOT IN (SELECT id FROM incoming_documents) AND d.id NOT IN (SELECT id FROM skipped);
-- next
DELETE FROM chunks c USING named n
 WHERE n.relation = 'c' AND n.row_id = c.id AND NOT EXISTS (SELECT FROM incoming_chunks i WHERE i.id = c.id)
   AND (c.document_id IS NULL OR c.document_id NOT IN (SELECT id FROM skipped));
-- next
-- Chunks that were made here give way to the primary's; of a document that is fetched whole, all that did not come.
DELETE FROM chunks c USING incoming_documents i
 WHERE c.document_id = i.id
   AND (c.id < 0 OR (i.id IN (SELECT row_id FROM aya_sync.refetch WHERE relation = 'd')
                     AND NOT EXISTS (SELECT FROM incoming_chunks x WHERE x.id = c.id)));
-- next
-- All unique values are given up before any is taken.
UPDATE documents d SET {empty} FROM incoming_documents i WHERE d.id = i.id AND ROW ({d_unique}) IS DISTINCT FROM ROW ({i_unique});
-- next
INSERT INTO documents ({documents}) SELECT {documents} FROM incoming_documents
    ON CONFLICT (id) DO UPDATE SET {set_documents};
-- next
-- A chunk whose document is not here, for it was deleted past the triggers, on one side or the other: a comparison tells.
DELETE FROM incoming_chunks i WHERE i.document_id IS NOT NULL AND NOT EXISTS (SELECT FROM documents d WHERE d.id = i.document_id);
-- next
-- Of a chunk whose text is the same only the rest: its words are not made again, an equal vector is not stored again.
ANALYZE incoming_chunks;
-- next
UPDATE chunks c
   SET {set_rest}, embedding = CASE WHEN c.embedding = i.embedding THEN c.embedding ELSE i.embedding END
  FROM incoming_chunks i WHERE c.id = i.id AND c.chunk_text = i.chunk_text;
-- next
INSERT INTO chunks ({chunks}) SELECT {chunks} FROM incoming_chunks i
 WHERE NOT EXISTS (SELECT FROM chunks c WHERE c.id = i.id AND c.chunk_text = i.chunk_text)
    ON CONFLICT (id) DO UPDATE SET {set_chunks};
-- next
DELETE FROM aya_sync.refetch r USING named n WHERE r.relation = n.relation AND r.row_id = n.row_id;
-- next
INSERT INTO aya_sync.refetch (relation, row_id) SELECT 'd', id FROM skipped ON CONFLICT DO NOTHING;
