-- Whether a present table lacks a foreign key of that name.
SELECT to_regclass(%(child)s) IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = to_regclass(%(child)s) AND conname = %(name)s)
