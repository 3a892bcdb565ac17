-- The triggers of either side fire in sessions that replicate or restore (session_replication_role = replica), too, and when they
-- were disabled.
DO $$
DECLARE
    silent record;
BEGIN
    FOR silent IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
                   WHERE tgrelid IN ('documents'::regclass, 'chunks'::regclass) AND starts_with(tgname, 'aya_sync_') AND tgenabled <> 'A' LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', silent.relation, silent.tgname);
    END LOOP;
END $$;
