SELECT attname::text AS name, format_type(atttypid, atttypmod) AS type, attgenerated <> '' AS generated,
       attnotnull AND attidentity = '' AND attgenerated = ''
           AND NOT EXISTS (SELECT FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum) AS required
  FROM pg_attribute WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
