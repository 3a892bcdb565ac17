-- The primary's side: what changed, who reads it, and which of the laptops' writes have been applied. Applied twice it changes
-- nothing. A schema of its own, so that the application role's rights on schema public do not reach it.
CREATE SCHEMA IF NOT EXISTS aya_sync;

CREATE TABLE IF NOT EXISTS aya_sync.state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    schema_version integer NOT NULL,
    pruned_below xid8 NOT NULL DEFAULT '0' -- rows of the log with a lower xid are gone
);

-- Which row was changed by which transaction; what it is now, the row itself says. relation: d document, c chunk, * everything.
CREATE TABLE IF NOT EXISTS aya_sync.changes (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    relation "char" NOT NULL,
    row_id integer NOT NULL,
    PRIMARY KEY (xid, relation, row_id)
);

-- A laptop, and the snapshot up to which it has everything: what all have may be pruned.
CREATE TABLE IF NOT EXISTS aya_sync.clients (
    client uuid PRIMARY KEY,
    name text NOT NULL,
    applied pg_snapshot,
    seen_at timestamptz NOT NULL DEFAULT now()
);
-- round: a number drawn for each write of that laptop; known: the last that it knew then. One that remembers neither has seen what
-- this server lost. reached: the snapshot of that write; what changed after it, the laptop may know otherwise.
ALTER TABLE aya_sync.clients
    ADD COLUMN IF NOT EXISTS round bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS known bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS reached pg_snapshot;

-- One row for each write of a laptop, in the same transaction as the write: the same mutation again does nothing.
CREATE TABLE IF NOT EXISTS aya_sync.mutations (
    client uuid NOT NULL,
    mutation uuid NOT NULL,
    document_id integer,
    version bigint,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client, mutation)
);

ALTER TABLE documents ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT 1;

CREATE OR REPLACE FUNCTION aya_sync.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO aya_sync.changes (relation, row_id) VALUES ('*', 0) ON CONFLICT DO NOTHING;
        PERFORM pg_notify('aya_changes', '');
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM changed) THEN
        RETURN NULL;
    END IF;
    INSERT INTO aya_sync.changes (relation, row_id) SELECT TG_ARGV[0]::"char", id FROM changed ON CONFLICT DO NOTHING;
    IF TG_OP = 'UPDATE' THEN -- an id may have changed, too
        INSERT INTO aya_sync.changes (relation, row_id)
        SELECT TG_ARGV[0]::"char", b.id FROM before b WHERE NOT EXISTS (SELECT FROM changed c WHERE c.id = b.id)
            ON CONFLICT DO NOTHING;
    END IF;
    PERFORM pg_notify('aya_changes', ''); -- the same again in one transaction is one
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION aya_sync.next_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER aya_sync_version BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION aya_sync.next_version();
CREATE OR REPLACE TRIGGER aya_sync_insert AFTER INSERT ON documents REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.note('d');
CREATE OR REPLACE TRIGGER aya_sync_update AFTER UPDATE ON documents REFERENCING NEW TABLE AS changed OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.note('d');
CREATE OR REPLACE TRIGGER aya_sync_delete AFTER DELETE ON documents REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.note('d');
CREATE OR REPLACE TRIGGER aya_sync_truncate AFTER TRUNCATE ON documents
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.note('*');
CREATE OR REPLACE TRIGGER aya_sync_insert AFTER INSERT ON chunks REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.note('c');
CREATE OR REPLACE TRIGGER aya_sync_update AFTER UPDATE ON chunks REFERENCING NEW TABLE AS changed OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.note('c');
CREATE OR REPLACE TRIGGER aya_sync_delete AFTER DELETE ON chunks REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.note('c');
CREATE OR REPLACE TRIGGER aya_sync_truncate AFTER TRUNCATE ON chunks
    FOR EACH STATEMENT EXECUTE FUNCTION aya_sync.note('*');

-- given: a value is stored in it, and not computed.
CREATE OR REPLACE FUNCTION aya_sync.columns(of_table regclass) RETURNS TABLE (name text, given boolean) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT attname::text, attgenerated = '' FROM pg_attribute
     WHERE attrelid = of_table AND attnum > 0 AND NOT attisdropped ORDER BY attnum
$$;

-- One write of a laptop: a document with all its chunks, or its end. outcome: applied, conflict (document_id: the one that
-- stands in the way), gone (it was deleted here), taken (another has a unique value of it), refused. parts null: its chunks
-- stay as they are. Every column that is sent is written, also one that was added later; one that is not there is refused.
CREATE OR REPLACE FUNCTION aya_sync.push(
    client_id uuid, mutation_id uuid, operation text, id integer, base bigint, document jsonb, parts jsonb,
    OUT outcome text, OUT document_id integer, OUT document_version bigint, OUT reason text
) LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    found_version bigint;
    unknown text;
    names text;
    part_names text;
BEGIN
    SELECT 'applied', m.document_id, m.version INTO outcome, document_id, document_version
      FROM aya_sync.mutations m WHERE m.client = client_id AND m.mutation = mutation_id;
    IF FOUND THEN
        RETURN;
    END IF;
    BEGIN -- a savepoint: what is refused leaves no trace, and the others of this transaction stay
        SELECT string_agg(key, ', ' ORDER BY key) INTO unknown FROM jsonb_object_keys(document) AS keys (key)
         WHERE NOT EXISTS (SELECT FROM aya_sync.columns('documents') c WHERE c.name = key);
        IF unknown IS NOT NULL AND operation <> 'DELETE' THEN
            RAISE EXCEPTION 'documents has no column %', unknown USING ERRCODE = 'undefined_column';
        END IF;
        SELECT string_agg(quote_ident(c.name), ', ') INTO names FROM aya_sync.columns('documents') c
         WHERE c.given AND c.name NOT IN ('id', 'version') AND document ? c.name;
        IF operation = 'INSERT' THEN
            SELECT d.id, d.version INTO document_id, document_version FROM documents d
             WHERE d.source_uri = document ->> 'source_uri';
            IF FOUND THEN
                outcome := 'conflict';
                RETURN;
            END IF;
            EXECUTE format('INSERT INTO documents (%1$s) SELECT %1$s FROM jsonb_populate_record(NULL::documents, $1)'
                           ' RETURNING id, version', names)
               INTO document_id, document_version USING document;
        ELSE
            document_id := id;
            SELECT d.version INTO found_version FROM documents d WHERE d.id = push.id FOR UPDATE;
            IF NOT FOUND AND operation = 'DELETE' THEN
                document_version := base;
            ELSIF NOT FOUND THEN
                outcome := 'gone';
                RETURN;
            ELSIF found_version IS DISTINCT FROM base THEN
                outcome := 'conflict';
                document_version := found_version;
                RETURN;
            ELSIF operation = 'DELETE' THEN
                DELETE FROM documents d WHERE d.id = push.id;
                document_version := base;
            ELSIF names IS NULL THEN -- its chunks alone
                UPDATE documents d SET id = d.id WHERE d.id = push.id RETURNING d.version INTO document_version;
            ELSE
                EXECUTE format('UPDATE documents SET (%1$s) = (SELECT %1$s FROM jsonb_populate_record(NULL::documents, $1))'
                               ' WHERE id = $2 RETURNING version', names)
                   INTO document_version USING document, push.id;
            END IF;
        END IF;
        IF parts IS NOT NULL AND operation <> 'DELETE' THEN
            DELETE FROM chunks c WHERE c.document_id = push.document_id;
            SELECT string_agg(quote_ident(c.name), ', ') INTO part_names FROM aya_sync.columns('chunks') c
             WHERE c.given AND c.name NOT IN ('id', 'document_id') AND parts -> 0 ? c.name;
            IF part_names IS NOT NULL THEN
                EXECUTE format('INSERT INTO chunks (document_id, %1$s) SELECT $2, %1$s'
                               ' FROM jsonb_populate_recordset(NULL::chunks, $1) WITH ORDINALITY ORDER BY ordinality', part_names)
                  USING parts, push.document_id;
            END IF;
        END IF;
        INSERT INTO aya_sync.mutations (client, mutation, document_id, version)
        VALUES (client_id, mutation_id, push.document_id, document_version);
        outcome := 'applied';
    EXCEPTION WHEN OTHERS THEN
        -- Not the row's fault (deadlock, out of room, stopping, read-only, locked): all of it is tried again later.
        IF left(SQLSTATE, 2) IN ('25', '40', '53', '55', '57', '58', 'XX') THEN
            RAISE;
        END IF;
        outcome := CASE WHEN SQLSTATE = '23505' THEN 'taken' ELSE 'refused' END;
        reason := SQLERRM;
    END;
END $$;

-- Remove a part of what every laptop has, or of what is kept for one that was not seen for so long; the laptop then compares
-- everything. How many rows: in the end none.
CREATE OR REPLACE FUNCTION aya_sync.prune(keep interval) RETURNS bigint LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    low xid8;
    gone bigint;
BEGIN
    SELECT min(x) INTO low FROM (
        SELECT pg_snapshot_xmin(applied) FROM aya_sync.clients WHERE applied IS NOT NULL AND seen_at > now() - keep
        UNION ALL SELECT pg_snapshot_xmin(pg_current_snapshot())) AS known (x);
    DELETE FROM aya_sync.changes WHERE ctid = ANY (ARRAY(SELECT ctid FROM aya_sync.changes WHERE xid < low LIMIT 50000));
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE aya_sync.state SET pruned_below = low WHERE pruned_below < low AND gone > 0;
    DELETE FROM aya_sync.mutations WHERE at < now() - 2 * keep;
    RETURN gone;
END $$;

INSERT INTO aya_sync.state (schema_version) VALUES ({version})
    ON CONFLICT (one) DO UPDATE SET schema_version = excluded.schema_version WHERE aya_sync.state.schema_version < {version};
