-- Databases beside this one, without those that a benchmark made for itself and what a broken DROP DATABASE left.
SELECT datname
  FROM pg_database
 WHERE NOT datistemplate AND datconnlimit <> -2
   AND datname <> current_database() AND datname NOT LIKE 'aya\_bench\_%'
 ORDER BY datname
