-- What keeps the application's role from working, by the catalogs and so in no server's language: reasons, and what mends each.
WITH r AS (SELECT * FROM pg_roles WHERE rolname = %(role)s),
     d AS (SELECT * FROM pg_database WHERE datname = current_database()),
     clients AS (SELECT * FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
     room AS (SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                     - current_setting('reserved_connections')::int AS places),
     tables AS (SELECT c.oid, c.relname FROM pg_class c
                 WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN ('documents', 'chunks') AND c.relkind = 'r'),
     lacking AS (SELECT t.relname, string_agg(p, ', ' ORDER BY p) AS rights
                   FROM r, tables t, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p
                  WHERE NOT has_table_privilege(r.oid, t.oid, p) GROUP BY t.relname),
     sequences AS (SELECT s.relname FROM r, tables t
                     JOIN pg_depend d ON d.refobjid = t.oid AND d.deptype IN ('a', 'i') AND d.classid = 'pg_class'::regclass
                     JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
                    WHERE NOT has_sequence_privilege(r.oid, s.oid, 'USAGE')),
     defaults AS (SELECT CASE WHEN setrole <> 0 AND setdatabase <> 0 THEN format('ALTER ROLE %%I IN DATABASE %%I', r.rolname, d.datname)
                              WHEN setrole <> 0 THEN format('ALTER ROLE %%I', r.rolname)
                              WHEN setdatabase <> 0 THEN format('ALTER DATABASE %%I', d.datname)
                              ELSE 'ALTER ROLE ALL' END AS who,
                         substr(c, strpos(c, '=') + 1)::boolean AS read_only,
                         (setrole <> 0)::int * 2 + (setdatabase <> 0)::int AS weight
                    FROM pg_db_role_setting, unnest(setconfig) c, r, d
                   WHERE starts_with(c, 'default_transaction_read_only=') AND setrole IN (0, r.oid) AND setdatabase IN (0, d.oid)
                   UNION ALL
                  SELECT 'ALTER SYSTEM', setting::boolean, -1
                    FROM pg_file_settings WHERE name = 'default_transaction_read_only' AND applied),
     first AS (SELECT * FROM defaults ORDER BY weight DESC LIMIT 1)
SELECT 'there is no role of this name' AS reason, format('CREATE ROLE %%I LOGIN, with its password and rights', %(role)s) AS remedy, false AS only_writes
 WHERE NOT EXISTS (SELECT FROM r)
UNION ALL
SELECT 'it may not log in (NOLOGIN)', format('ALTER ROLE %%I LOGIN', rolname), false FROM r WHERE NOT rolcanlogin
UNION ALL
SELECT format('its password expired %%s (VALID UNTIL)', rolvaliduntil), format('ALTER ROLE %%I VALID UNTIL ''infinity''', rolname), false
  FROM r WHERE rolvaliduntil < now()
UNION ALL
SELECT format('all of its %%s connections are taken (CONNECTION LIMIT)', rolconnlimit), format('ALTER ROLE %%I CONNECTION LIMIT -1', rolname), false
  FROM r WHERE rolconnlimit >= 0 AND (SELECT count(*) FROM clients WHERE usename = r.rolname) >= rolconnlimit
UNION ALL
SELECT format('all of the %%s connections of database %%s are taken', datconnlimit, datname), format('ALTER DATABASE %%I CONNECTION LIMIT -1', datname), false
  FROM d WHERE datconnlimit >= 0 AND (SELECT count(*) FROM clients WHERE datname = d.datname) >= datconnlimit
UNION ALL
SELECT format('all %%s places of max_connections that are not reserved are taken, %%s', places,
              (SELECT format('%%s of them by application "%%s" of role %%s', count(*), application_name, usename)
                 FROM clients GROUP BY application_name, usename ORDER BY count(*) DESC LIMIT 1)),
       'end what is idle (pg_stat_activity, pg_terminate_backend), or raise max_connections, on the standby first', false
  FROM room WHERE (SELECT count(*) FROM clients) >= places
UNION ALL
SELECT format('it may not connect to database %%s', datname), format('GRANT CONNECT ON DATABASE %%I TO %%I', datname, rolname), false
  FROM r, d WHERE NOT has_database_privilege(r.oid, d.oid, 'CONNECT')
UNION ALL
SELECT 'it may not use schema public', format('GRANT USAGE ON SCHEMA public TO %%I', rolname), false
  FROM r WHERE NOT has_schema_privilege(r.oid, 'public'::regnamespace, 'USAGE')
UNION ALL
SELECT format('it lacks %%s on %%s', rights, relname), format('GRANT %%s ON %%I TO %%I', rights, relname, rolname), 'SELECT' <> ALL (string_to_array(rights, ', ')) FROM lacking, r
UNION ALL
SELECT format('row-level security is on for %%s, and no policy lets it see a row', c.relname), format('CREATE POLICY ... ON %%I TO %%I', c.relname, r.rolname), false
  FROM r, tables t JOIN pg_class c USING (oid)
 WHERE c.relrowsecurity AND NOT r.rolbypassrls AND NOT pg_has_role(r.oid, c.relowner, 'USAGE')
   AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND (0 = ANY (polroles) OR r.oid = ANY (polroles)))
UNION ALL
SELECT format('it lacks USAGE on sequence %%s', relname), format('GRANT USAGE ON SEQUENCE %%I TO %%I', relname, rolname), true FROM sequences, r
UNION ALL
SELECT format('default_transaction_read_only is on (%%s)', who),
       format('SET default_transaction_read_only = off; %%s RESET default_transaction_read_only; SELECT pg_reload_conf()', who),
       true
  FROM first WHERE read_only
