-- What else of this database must be equal after a restore, in words or as a checksum of its words. Of a sequence: its
-- value (negated when it counts down), and by how much WAL may be ahead of it: 32 values and those of one session, which a standby
-- has and its primary's own pages do not. (PostgreSQL: SEQ_LOG_VALS in sequence.c.)
SELECT json_object_agg(what, said)::text FROM (
  SELECT 'extensions' AS what, coalesce(string_agg(extname || ' ' || extversion, ', ' ORDER BY extname COLLATE "C"), 'none') AS said
    FROM pg_extension
  UNION ALL
  SELECT 'columns', count(*) || ' ' || coalesce(md5(string_agg(concat_ws(' ', n.nspname, c.relname, a.attname,
           format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)), E'\n'
           ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", a.attnum)), '')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  UNION ALL
  SELECT 'indexes', count(*) || ' ' || coalesce(md5(string_agg(pg_get_indexdef(i.indexrelid) || i.indisvalid, E'\n'
           ORDER BY pg_get_indexdef(i.indexrelid) COLLATE "C")), '')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' AND c.relpersistence <> 't'
  UNION ALL
  SELECT 'constraints', count(*) || ' ' || coalesce(md5(string_agg(conrelid::regclass || pg_get_constraintdef(o.oid), E'\n'
           ORDER BY conrelid::regclass::text COLLATE "C", pg_get_constraintdef(o.oid) COLLATE "C")), '')
    FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace
   WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND o.conrelid <> 0
  UNION ALL
  SELECT 'functions and triggers', count(*) || ' ' || coalesce(md5(string_agg(said, E'\n' ORDER BY said COLLATE "C")), '')
    FROM (SELECT p.oid::regprocedure || md5(p.prosrc) AS said
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
           WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
          UNION ALL
          SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal) AS each
  UNION ALL
  SELECT format('sequence %I.%I', schemaname, sequencename),
         concat_ws(' ', CASE WHEN increment_by < 0 THEN -last_value::numeric ELSE last_value END,
                        abs(increment_by::numeric) * (32 + cache_size))
    FROM pg_sequences
   WHERE last_value IS NOT NULL AND NOT cycle
) AS facts
