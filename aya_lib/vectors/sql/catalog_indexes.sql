-- Every IVFFlat and HNSW index that rests on the column, also those of an expression, with what an interrupted build left.
-- Options as declared, with pgvector's defaults for those that were not given.
SELECT i.relname AS name, am.amname AS method, o.opcname AS operator_class,
       CASE am.amname WHEN 'ivfflat' THEN '{"lists": 100}'::jsonb ELSE '{"m": 16, "ef_construction": 64}' END
           || (SELECT coalesce(jsonb_object_agg(option_name, option_value::int), '{}') FROM pg_options_to_table(i.reloptions))
           AS options,
       nullif(a.atttypmod, -1) AS dimension, x.indisvalid AS valid, x.indpred IS NOT NULL AS partial,
       pg_relation_size(i.oid) AS bytes, coalesce(pg_stat_get_numscans(i.oid), 0) AS scans,
       coalesce(pg_relation_filenode(i.oid), 0)::bigint AS filenode
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_am am ON am.oid = i.relam AND am.amname IN ('ivfflat', 'hnsw')
  JOIN pg_opclass o ON o.oid = x.indclass[0]
  JOIN pg_attribute a ON a.attrelid = i.oid AND a.attnum = 1
 WHERE x.indrelid = %(oid)s::oid
   AND (o.opcname ~ '^(vector|halfvec)_(cosine|l2|ip)_ops$' OR o.opcname = 'bit_hamming_ops' AND am.amname = 'hnsw')
   AND EXISTS (SELECT FROM pg_depend d JOIN pg_attribute c ON c.attrelid = x.indrelid AND c.attnum = d.refobjsubid
                WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid
                  AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.indrelid AND c.attname = %(column)s)
 ORDER BY i.relname
