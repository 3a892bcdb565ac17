-- Rows and checksum of each of these tables that is there, all of them in one snapshot. The 64-bit hashes of the rows' text form
-- are summed, so that their order does not matter; query_to_xml runs a query that is made of a name.
SELECT coalesce(json_object_agg(name, json_build_array(substring(found from '<n>(.*?)</n>')::bigint,
                                                       substring(found from '<s>(.*?)</s>'))), '{{}}')::text
  FROM (SELECT name,
               query_to_xml(format('SELECT count(*) AS n, coalesce(sum(hashtextextended(t::text, 0)), 0) AS s FROM ONLY %s AS t',
                                   to_regclass(name)), false, true, '')::text AS found
          FROM unnest({names}::text[]) AS name
         WHERE to_regclass(name) IS NOT NULL) AS each
