-- A table of the backup beside the present one, by their key: what only one has, and what is not the same in both.
SELECT kind, count(*) AS rows, array_agg(key ORDER BY place) FILTER (WHERE place <= 5) AS first
  FROM (SELECT kind, key, row_number() OVER (PARTITION BY kind ORDER BY {order}) AS place
          FROM (SELECT CASE WHEN live.{key} IS NULL THEN 'missing' WHEN kept.{key} IS NULL THEN 'added' ELSE 'changed' END AS kind,
                       {shown} AS key, {keys}
                  FROM {kept} kept FULL JOIN {live} live ON {same}
                 WHERE live.{key} IS NULL OR kept.{key} IS NULL
                       OR ROW({of_kept})::text IS DISTINCT FROM ROW({of_live})::text) AS pair) AS placed
 GROUP BY kind
