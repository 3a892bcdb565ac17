-- Of a document: version, when it was made, its text, the rest, and what is compared for the first time; of a chunk one hash.
SELECT 'd' AS relation, id,
       concat_ws(' ', version, coalesce(extract(epoch FROM created_at)::text, '-'), md5(content),
                 md5(ROW ({document})::text), md5(ROW ({fresh})::text)) AS hash
  FROM documents WHERE id > 0
UNION ALL
SELECT 'c', id,
       md5(ROW ({chunk}, md5(vector_send(embedding)))::text)
  FROM chunks WHERE id > 0
