-- Every IVFFlat and HNSW index that rests on the column, also those of an expression, with what an interrupted build left.
SELECT i.relname AS name, am.amname AS method, o.opcname AS operator_class, coalesce(i.reloptions, '{}') AS reloptions,
       nullif(a.atttypmod, -1) AS dimension, x.indisvalid AS valid, x.indisready AS ready, x.indpred IS NOT NULL AS partial,
       pg_relation_size(i.oid) AS bytes, coalesce(pg_stat_get_numscans(i.oid), 0) AS scans,
       coalesce(pg_relation_filenode(i.oid), 0)::bigint AS filenode, pg_get_indexdef(i.oid) AS definition
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
