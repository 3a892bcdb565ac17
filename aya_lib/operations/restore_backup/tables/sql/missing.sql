-- What the present table lacks, by its key; never another row in its place, and never one changed.
INSERT INTO {live} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {columns} FROM {kept} kept
 WHERE NOT EXISTS (SELECT FROM {live} live WHERE {same})
 ORDER BY {order}
