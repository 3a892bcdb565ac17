-- The same of the whole cluster. Of a password only whether it is the same, as part of a checksum.
SELECT json_object_agg(what, said)::text FROM (
  SELECT 'databases' AS what, string_agg(datname, ', ' ORDER BY datname COLLATE "C") AS said
    FROM pg_database WHERE datconnlimit <> -2 AND datname NOT LIKE 'aya\_bench\_%'
  UNION ALL
  SELECT 'roles', count(*) || ' ' || md5(string_agg(concat_ws(' ', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb,
           rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil, rolconfig), E'\n' ORDER BY rolname COLLATE "C"))
    FROM pg_roles
  UNION ALL
  SELECT 'memberships', count(*) || ' ' || coalesce(md5(string_agg(roleid::regrole || ' ' || member::regrole || admin_option, E'\n'
           ORDER BY roleid::regrole::text COLLATE "C", member::regrole::text COLLATE "C")), '')
    FROM pg_auth_members
) AS facts
