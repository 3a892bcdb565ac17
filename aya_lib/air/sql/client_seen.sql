-- A number that is drawn, and not counted: two pasts of a primary never have the same.
INSERT INTO aya_sync.clients AS c (client, name, applied, round, known, reached)
VALUES (%(client)s, %(name)s, %(applied)s::pg_snapshot, random(1, 9223372036854775807), %(round)s, pg_current_snapshot())
    ON CONFLICT (client) DO UPDATE
   SET name = excluded.name, applied = coalesce(excluded.applied, c.applied), seen_at = now(), round = excluded.round,
       known = excluded.known, reached = excluded.reached
RETURNING round
