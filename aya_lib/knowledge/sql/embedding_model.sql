-- The model whose vectors the chunks hold, as it was recorded, and the dimension of their column.
SELECT (SELECT value ->> 'model' FROM aya_settings WHERE key = 'embedding') AS model,
       (SELECT value ->> 'text' FROM aya_settings WHERE key = 'embedding') AS text,
       (SELECT value ->> 'fingerprint' FROM aya_settings WHERE key = 'embedding') AS fingerprint,
       (SELECT atttypmod FROM pg_attribute
         WHERE attrelid = 'chunks'::regclass AND attname = 'embedding' AND NOT attisdropped) AS dimension,
       EXISTS (SELECT FROM chunks WHERE embedding IS NOT NULL) AS vectors
