-- The laptop's side: where the pull stands, what waits to be pushed, and what lost. Applied twice it changes nothing.
CREATE SCHEMA IF NOT EXISTS aya_sync;

-- snapshot: everything of the primary that it shows is here. system_identifier, timeline, lsn: where the primary was after it.
CREATE TABLE IF NOT EXISTS aya_sync.laptop (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    schema_version integer NOT NULL,
    client uuid NOT NULL DEFAULT gen_random_uuid(),
    phase text NOT NULL DEFAULT 'new' CHECK (phase IN ('new', 'copying', 'ready')),
    snapshot pg_snapshot,
    log oid, -- of the primary's table of changes: another one after a logical restore
    system_identifier text,
    timeline integer,
    lsn pg_lsn,
    copied_documents integer NOT NULL DEFAULT 0, -- of the first copy: up to this id
    copied_chunks integer NOT NULL DEFAULT 0,
    synced_at timestamptz
);

-- Until then the daemon leaves the primary alone: a person asked for it, or the set-up tries what is written offline.
ALTER TABLE aya_sync.laptop ADD COLUMN IF NOT EXISTS paused_until timestamptz;
-- The number of this laptop's last write on the primary: one that does not know it was put back to a copy of its files.
ALTER TABLE aya_sync.laptop ADD COLUMN IF NOT EXISTS round bigint NOT NULL DEFAULT 0;

-- The columns in which both sides were equal after the last comparison, as table.column.
ALTER TABLE aya_sync.laptop ADD COLUMN IF NOT EXISTS columns text[];

-- Rows to be fetched although the log does not name them: found different by a comparison, or passed over while queued here.
CREATE TABLE IF NOT EXISTS aya_sync.refetch (relation "char" NOT NULL, row_id integer NOT NULL, PRIMARY KEY (relation, row_id));

-- What lost against the primary's version, whole, so that nothing is gone.
CREATE TABLE IF NOT EXISTS aya_sync.conflicts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL,
    document_id integer,
    document jsonb,
    chunks jsonb,
    seen boolean NOT NULL DEFAULT false
);

-- A document that was made here, under the id it had until the primary gave it one.
CREATE TABLE IF NOT EXISTS aya_sync.renamed (local_id integer PRIMARY KEY, document_id integer NOT NULL, at timestamptz DEFAULT now());

ALTER TABLE documents ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT 1;
ALTER TABLE write_queue
    ADD COLUMN IF NOT EXISTS mutation uuid DEFAULT uuidv7(),
    ADD COLUMN IF NOT EXISTS document_id integer,
    ADD COLUMN IF NOT EXISTS base_version bigint,
    ADD COLUMN IF NOT EXISTS state text NOT NULL DEFAULT 'queued',
    ADD COLUMN IF NOT EXISTS reason text,
    ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS chunks_changed boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS changed text[], -- of an UPDATE: the columns of the document; null: all
    ADD COLUMN IF NOT EXISTS needs_chunks boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS system_identifier text,
    ADD COLUMN IF NOT EXISTS timeline integer,
    ADD COLUMN IF NOT EXISTS lsn pg_lsn;
CREATE INDEX IF NOT EXISTS write_queue_waiting ON write_queue (document_id, id) WHERE NOT synced;

-- Ids that are given here are below zero and so never one of the primary's; the primary's id replaces it after the push.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['documents', 'chunks'] LOOP
        name := pg_get_serial_sequence(name, 'id');
        IF (SELECT seqincrement > 0 FROM pg_sequence WHERE seqrelid = name::regclass) THEN
            EXECUTE format('ALTER SEQUENCE %s INCREMENT -1 MINVALUE -2147483648 MAXVALUE -1 START -1 RESTART -1', name);
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION aya_sync.applying() RETURNS boolean LANGUAGE sql STABLE AS
    $$SELECT coalesce(current_setting('aya.applying', true), '') = 'on'$$;

DROP FUNCTION IF EXISTS aya_sync.queue(text, integer, jsonb, bigint, boolean, boolean);
CREATE OR REPLACE FUNCTION aya_sync.queue(
    op text, doc integer, body jsonb, base bigint, parts boolean, lacking boolean, names text[] DEFAULT NULL
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    SET plan_cache_mode = force_custom_plan -- a plan for a short queue would be used for the rest of a long statement
AS $$
DECLARE
    was text;
BEGIN
    -- A mutation that was never sent takes the change in; one that was may have arrived, and another follows it.
    UPDATE write_queue q
       SET operation = CASE WHEN q.operation = 'INSERT' AND op = 'UPDATE' THEN 'INSERT' ELSE op END,
           data = coalesce(body, q.data), chunks_changed = q.chunks_changed OR parts, needs_chunks = coalesce(lacking, q.needs_chunks),
           changed = CASE WHEN q.changed IS NOT NULL AND names IS NOT NULL THEN q.changed || names END
      FROM (SELECT o.id, o.operation FROM write_queue o
             WHERE o.document_id = doc AND NOT o.synced AND o.state = 'queued' AND o.attempts = 0
             ORDER BY o.id + 0 DESC LIMIT 1 FOR UPDATE) old -- not by the primary key, which would read the whole queue
     WHERE q.id = old.id AND q.attempts = 0 AND NOT q.synced
    RETURNING old.operation INTO was;
    IF NOT FOUND THEN
        INSERT INTO write_queue (operation, table_name, data, document_id, base_version, chunks_changed, needs_chunks, changed)
        VALUES (op, 'documents', body, doc, base, parts, coalesce(lacking, false), names);
    ELSIF was = 'INSERT' AND op = 'DELETE' THEN
        DELETE FROM write_queue WHERE document_id = doc AND NOT synced AND state = 'queued' AND attempts = 0 AND operation = 'DELETE';
    END IF;
    PERFORM pg_notify('aya_queue', '');
END $$;

CREATE OR REPLACE FUNCTION aya_sync.document_before() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
BEGIN
    IF aya_sync.applying() THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' AND NEW.id >= 0 THEN
        RAISE EXCEPTION 'document id %: ids above zero are given by the primary', NEW.id
            USING ERRCODE = 'check_violation', HINT = 'Leave id out: the document gets one here, and the primary''s after the push';
    ELSIF TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'document %: its id cannot be changed', OLD.id USING ERRCODE = 'check_violation';
    ELSIF TG_OP = 'UPDATE' THEN
        NEW.version := OLD.version;
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION aya_sync.document_after() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
BEGIN
    IF aya_sync.applying() THEN
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        PERFORM aya_sync.queue('INSERT', NEW.id, to_jsonb(NEW), NULL, true, true);
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM aya_sync.queue('UPDATE', NEW.id, to_jsonb(NEW), OLD.version, NEW.content <> OLD.content,
                               CASE WHEN NEW.content <> OLD.content THEN true END,
                               ARRAY(SELECT key FROM jsonb_each(to_jsonb(NEW)) AS now JOIN jsonb_each(to_jsonb(OLD)) AS was USING (key)
                                      WHERE now.value <> was.value));
    ELSE
        PERFORM aya_sync.queue('DELETE', OLD.id, to_jsonb(OLD), OLD.version, false, false);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION aya_sync.chunks_after() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
DECLARE
    doc documents;
BEGIN
    IF aya_sync.applying() THEN
        RETURN NULL;
    END IF;
    FOR doc IN SELECT d.* FROM documents d WHERE d.id IN (SELECT document_id FROM changed) ORDER BY d.id FOR UPDATE LOOP
        PERFORM aya_sync.queue('UPDATE', doc.id, to_jsonb(doc), doc.version, true, CASE WHEN TG_OP = 'INSERT' THEN false END, '{{}}');
    END LOOP;
    RETURN NULL;
END $$;

-- The primary's version stands: what the laptop had is kept whole, its mutations end, and the primary's row is fetched.
CREATE OR REPLACE FUNCTION aya_sync.lose(doc integer, why text) RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO aya_sync.conflicts (kind, document_id, document, chunks)
    SELECT why, doc,
           coalesce((SELECT to_jsonb(d) FROM documents d WHERE d.id = doc),
                    (SELECT q.data FROM write_queue q WHERE q.document_id = doc AND NOT q.synced ORDER BY q.id DESC LIMIT 1)),
           (SELECT jsonb_agg(to_jsonb(c) - 'chunk_terms' ORDER BY c.chunk_index, c.id) FROM chunks c WHERE c.document_id = doc);
    UPDATE write_queue SET synced = true, state = 'conflict', reason = why WHERE document_id = doc AND NOT synced;
    IF doc < 0 THEN
        DELETE FROM documents WHERE id = doc;
    ELSE
        INSERT INTO aya_sync.refetch (relation, row_id) VALUES ('d', doc) ON CONFLICT DO NOTHING;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION aya_sync.no_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of % is not carried to the primary', TG_TABLE_NAME
        USING ERRCODE = 'feature_not_supported', HINT = 'Use DELETE: it is queued row by row';
END $$;

CREATE OR REPLACE TRIGGER aya_sync_before BEFORE INSERT OR UPDATE ON documents
    FOR EACH ROW EXECUTE FUNCTION aya_sync.document_before();
CREATE OR REPLACE TRIGGER aya_sync_after AFTER INSERT OR UPDATE OR DELETE ON documents
    FOR EACH ROW EXECUTE FUNCTION aya_sync.document_after();
CREATE OR REPLACE TRIGGER aya_sync_truncate BEFORE TRUNCATE ON documents EXECUTE FUNCTION aya_sync.no_truncate();
CREATE OR REPLACE TRIGGER aya_sync_insert AFTER INSERT ON chunks REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.chunks_after();
CREATE OR REPLACE TRIGGER aya_sync_update AFTER UPDATE ON chunks REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.chunks_after();
CREATE OR REPLACE TRIGGER aya_sync_delete AFTER DELETE ON chunks REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.chunks_after();
CREATE OR REPLACE TRIGGER aya_sync_truncate BEFORE TRUNCATE ON chunks EXECUTE FUNCTION aya_sync.no_truncate();

-- A document's chunks follow it when the primary's id replaces the local one.
DO $$
DECLARE
    named text;
BEGIN
    SELECT conname INTO named FROM pg_constraint
     WHERE conrelid = 'chunks'::regclass AND confrelid = 'documents'::regclass AND contype = 'f' AND confupdtype <> 'c';
    IF FOUND THEN
        EXECUTE format('ALTER TABLE chunks DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (document_id)'
                       ' REFERENCES documents (id) ON DELETE CASCADE ON UPDATE CASCADE', named, named);
    END IF;
END $$;

INSERT INTO aya_sync.laptop (schema_version) VALUES ({version})
    ON CONFLICT (one) DO UPDATE SET schema_version = excluded.schema_version WHERE aya_sync.laptop.schema_version < {version};
