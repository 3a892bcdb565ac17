-- Triggers on the tables that travel which are not the synchronisation's, and whether this session may pass them.
SELECT coalesce(string_agg(format('%s of %s', tgname, relname), ', ' ORDER BY relname, tgname), '') AS names,
       has_parameter_privilege('session_replication_role', 'SET') AS passable
  FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
 WHERE tgrelid IN ('public.documents'::regclass, 'public.chunks'::regclass) AND NOT tgisinternal AND tgenabled <> 'D'
   AND NOT starts_with(tgname, 'aya_sync_') AND tgname <> 'chunks_terms'
