-- Ordinary tables of the application, with a key to order by, smallest schema name first.
SELECT n.nspname AS schema,
       c.relname AS name,
       (SELECT a.attname
          FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = c.oid AND i.indisprimary) AS key
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence = 'p'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND c.relname NOT LIKE 'aya\_probe\_%%'
 ORDER BY 1, 2
