-- The columns of each unique index of the documents but the primary key. kind: what may stand in it for a moment; plain: the index
-- is over these columns and all rows.
SELECT i.indexrelid::regclass::text AS index, a.attname::text AS name,
       i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = count(*) OVER (PARTITION BY i.indexrelid) AS plain,
       CASE WHEN a.attgenerated <> '' THEN ''
            WHEN NOT a.attnotnull AND NOT i.indnullsnotdistinct THEN 'null'
            WHEN a.atttypid IN ('text'::regtype, 'varchar'::regtype) THEN 'text'
            WHEN a.atttypid = 'uuid'::regtype THEN 'uuid'
            WHEN a.atttypid IN ('integer'::regtype, 'bigint'::regtype, 'numeric'::regtype) THEN 'number' ELSE '' END AS kind
  FROM pg_index i
  JOIN pg_attribute a ON a.attrelid = i.indrelid
   AND (a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
        OR EXISTS (SELECT FROM pg_depend WHERE objid = i.indexrelid AND refobjid = i.indrelid AND refobjsubid = a.attnum
                      AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)))
 WHERE i.indrelid = 'public.documents'::regclass AND i.indisunique AND NOT i.indisprimary AND i.indisvalid
   AND a.attname NOT IN ('id', 'version')
 ORDER BY 1, a.attnotnull, a.attnum
