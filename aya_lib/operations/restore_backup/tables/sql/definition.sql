-- One ordinary table as JSON, for psql: with :schema and :name. Every name is written with its schema.
SET search_path = pg_catalog;
SELECT json_build_object(
    'name', format('%s.%s', n.nspname, c.relname),
    'columns', (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
                  FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
    'keys', (SELECT coalesce(json_agg(a.attname ORDER BY k.place), '[]')
               FROM pg_index x CROSS JOIN unnest(x.indkey) WITH ORDINALITY AS k (attnum, place)
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
              WHERE x.indrelid = c.oid AND x.indisprimary AND k.place <= x.indnkeyatts),
    'parents', (SELECT coalesce(json_agg(DISTINCT format('%s.%s', m.nspname, p.relname)), '[]')
                  FROM pg_constraint f JOIN pg_class p ON p.oid = f.confrelid JOIN pg_namespace m ON m.oid = p.relnamespace
                 WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.confrelid <> c.oid),
    'references', (SELECT coalesce(json_agg(json_build_object('child', format('%s.%s', m.nspname, p.relname), 'name', f.conname,
                              'definition', pg_get_constraintdef(f.oid), 'cascades', f.confdeltype = 'c') ORDER BY f.conname), '[]')
                     FROM pg_constraint f JOIN pg_class p ON p.oid = f.conrelid JOIN pg_namespace m ON m.oid = p.relnamespace
                    WHERE f.confrelid = c.oid AND f.contype = 'f' AND f.conrelid <> c.oid),
    'sequences', (SELECT coalesce(json_object_agg(s.oid::regclass, coalesce(pg_sequence_last_value(s.oid), 0)), '{}')
                    FROM pg_depend d JOIN pg_sequence q ON q.seqrelid = d.objid JOIN pg_class s ON s.oid = q.seqrelid
                   WHERE d.classid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype IN ('a', 'i')))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = :'schema' AND c.relname = :'name' AND c.relkind = 'r';
