-- Of each range of ids: how many rows, and one checksum over the hashes of them all.
SELECT relation, id / {size} AS part, count(*)::int AS rows, md5(string_agg(hash, ',' ORDER BY id)) AS checksum
  FROM ({rows}) AS hashed GROUP BY 1, 2
