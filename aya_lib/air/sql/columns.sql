SELECT attname::text, format_type(atttypid, atttypmod) || CASE WHEN attgenerated <> '' THEN ' generated' ELSE '' END
  FROM pg_attribute WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
