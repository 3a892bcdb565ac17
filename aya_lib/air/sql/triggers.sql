-- Those of the synchronisation's triggers that do not fire in every session. state: as in pg_trigger; null: there is none.
SELECT wanted.relation, wanted.name, t.tgenabled::text AS state
  FROM unnest(%(relations)s::text[], %(names)s::text[]) AS wanted (relation, name)
  LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass('public.' || wanted.relation) AND t.tgname = wanted.name
 WHERE t.tgenabled IS DISTINCT FROM 'A'
 ORDER BY 1, 2
