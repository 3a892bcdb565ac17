-- Every table of this database, and large objects, so that nobody can write until the transaction ends. The whole of it is given
-- up by statement_timeout, which is below deadlock_timeout: who waits for us never becomes the victim of a deadlock.
DO $$
DECLARE name regclass;
BEGIN
  FOR name IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind = 'r' AND c.relpersistence = 'p'
                 AND (n.nspname NOT IN ('pg_catalog', 'information_schema')
                      OR c.oid = 'pg_largeobject'::regclass AND EXISTS (SELECT FROM pg_largeobject_metadata))
               ORDER BY c.oid
  LOOP
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE MODE', name);
  END LOOP;
END $$
