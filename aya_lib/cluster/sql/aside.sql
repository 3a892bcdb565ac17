-- What is not compared row by row in this database. A sequence's value is negated when it counts down; one that begins again is
-- left out. WAL is ahead by 32 values and those of one session. (PostgreSQL: SEQ_LOG_VALS in sequence.c.)
SELECT (SELECT json_object_agg(format('%%I.%%I', s.schemaname, s.sequencename),
                               json_build_array(CASE WHEN s.increment_by < 0 THEN -s.last_value::numeric ELSE s.last_value END,
                                                abs(s.increment_by::numeric) * (32 + s.cache_size)))
          FROM pg_sequences s
          JOIN pg_namespace n ON n.nspname = s.schemaname
          JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.sequencename AND c.relpersistence = 'p'
         WHERE s.last_value IS NOT NULL AND NOT s.cycle) AS sequences,
       ARRAY(SELECT format('%%I.%%I', n.nspname, c.relname)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'u' ORDER BY 1) AS unlogged,
       ARRAY(SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY gid) AS prepared
