-- All rows of a table counted; the 64-bit hashes of the newest ones' text form summed (hashtextextended).
SELECT (SELECT count(*) FROM {name} {shown}), count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text
  FROM (SELECT * FROM {name} {shown} {newest}) AS t
