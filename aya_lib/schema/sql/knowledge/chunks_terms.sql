-- The words of a text as people type them: normal forms, accents, identifiers, line ends, scripts without spaces.
-- said: the words one by one, compounds split. joined: compounds as one word, versions, umlauts as two letters.
-- grams: pairs of characters of the scripts that put no spaces between words.
CREATE OR REPLACE FUNCTION public.aya_words(given text, OUT said text, OUT joined text, OUT grams text)
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    plain text := left(given, 250000) COLLATE pg_c_utf8; -- the classes of characters are Unicode's, whatever the database's are
    unspaced constant text := '[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff'
                              '\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+';
BEGIN
    IF strpos(plain, E'\x1b') > 0 THEN -- what colours a terminal
        plain := regexp_replace(plain, '\x1b(?:\[[0-9;?]*[@-~]|\][^\x07\x1b]*\x07?|[^\[\]])', '', 'g');
    END IF;
    joined := '';
    IF octet_length(plain) > length(plain) THEN
        plain := translate(normalize(plain, NFKC), U&'\2019\2010\200B\00AD\200C\200D\2060\FEFF\200E\200F', '''--');
        IF plain ~ '[äöüÄÖÜ]' THEN
            SELECT string_agg(replace(replace(replace(lower(word[1]), 'ä', 'ae'), 'ö', 'oe'), 'ü', 'ue'), ' ') INTO joined
              FROM regexp_matches(plain, '[[:alpha:]]*[äöüÄÖÜ][[:alpha:]]*', 'g') AS word;
        END IF;
        plain := regexp_replace(normalize(plain, NFD), '([A-Za-zΑ-Ωα-ω])[\u0300-\u036f]+', '\1', 'g');
        plain := translate(replace(replace(replace(normalize(plain, NFC), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'øłđı', 'oldi');
        SELECT string_agg(quote_literal(part) || ':' || least(place, 16000), ' ') INTO grams
          FROM (SELECT place, unnest(CASE WHEN sign ~ '[\u3400-\u9fff]' THEN ARRAY[sign, sign || next] ELSE ARRAY[sign || next] END)
                  FROM (SELECT sign, place, lead(sign) OVER (PARTITION BY number ORDER BY place) AS next
                          FROM regexp_matches(left(plain, 60000), unspaced, 'g') WITH ORDINALITY AS run (signs, number),
                               string_to_table(signs[1], NULL) WITH ORDINALITY AS one (sign, place)) AS pairs) AS parts (place, part)
         WHERE part IS NOT NULL;
        IF grams IS NOT NULL THEN
            plain := regexp_replace(plain, unspaced, ' ', 'g');
        END IF;
    END IF;
    IF plain ~ '-[ \t]*\r?\n' THEN -- a line's end cut a word in two, or the hyphen is its own: both are found
        SELECT concat_ws(' ', joined, string_agg(concat_ws(' ', half[1], half[2]), ' ')) INTO joined
          FROM regexp_matches(plain, '([[:alpha:]]+)-[ \t]*\r?\n[ \t]*([[:alpha:]]+)', 'g') AS half;
        plain := regexp_replace(plain, '([[:alpha:]])-[ \t]*\r?\n[ \t]*(?=[[:alpha:]])', '\1', 'g');
    END IF;
    SELECT concat_ws(' ', joined, string_agg(regexp_replace(part, '[^[:alnum:]]', '', 'g'), ' ')) INTO joined
      FROM regexp_matches(plain, '[[:alnum:]]+(?:[-_./:\\@'']+[[:alnum:]]+)+|[[:alnum:]]*[[:lower:][:digit:]][[:upper:]][[:alnum:]]*'
                                 '|[[:alpha:]]+[[:digit:]][[:alnum:]]*|[[:upper:]]{{2,}}[[:lower:]]{{2,}}', 'g') AS word,
           LATERAL (SELECT word[1] AS part UNION SELECT part FROM regexp_split_to_table(word[1], '[./:\\@]+') AS part
                     WHERE part ~ '[-_]|[[:lower:]][[:upper:]]') AS parts
     WHERE length(part) <= 80;
    IF plain ~ '[0-9][.][0-9]' THEN
        SELECT concat_ws(' ', joined, string_agg(number[1], ' ')) INTO joined
          FROM regexp_matches(plain, '[0-9]+(?:[.][0-9]+)+', 'g') AS number;
    END IF;
    joined := lower(joined COLLATE pg_c_utf8);
    plain := regexp_replace(plain, '([[:lower:][:digit:]])([[:upper:]])', '\1 \2', 'g');
    plain := regexp_replace(plain, '([[:upper:]])([[:upper:]][[:lower:]][[:lower:]])', '\1 \2', 'g');
    plain := regexp_replace(plain, '([[:alpha:]])([[:digit:]])', '\1 \2', 'g');
    said := lower(regexp_replace(plain, '[[:punct:][:space:][:cntrl:]]+', ' ', 'g') COLLATE pg_c_utf8);
END $$;

CREATE OR REPLACE FUNCTION public.aya_terms(given text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_tsvector('pg_catalog.{language}', w.said) || to_tsvector('pg_catalog.{language}', w.joined)
           || coalesce(w.grams, '')::tsvector
      FROM public.aya_words(given) AS w
$$;

-- What is found of a chunk by words: its title counts more than its headings, and they more than its text.
CREATE OR REPLACE FUNCTION public.aya_chunk_terms(chunk_text text, metadata jsonb) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT setweight(public.aya_terms(coalesce(metadata ->> 'title', '')), 'A')
           || setweight(public.aya_terms(coalesce(CASE jsonb_typeof(metadata -> 'headings') WHEN 'array' THEN
                  (SELECT string_agg(heading, ' / ') FROM jsonb_array_elements_text(metadata -> 'headings') AS heading) END, '')), 'B')
           || public.aya_terms(chunk_text)
$$;

CREATE OR REPLACE FUNCTION public.aya_chunks_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.chunk_text = OLD.chunk_text AND NEW.chunk_terms IS NOT NULL
       AND NEW.metadata -> 'title' IS NOT DISTINCT FROM OLD.metadata -> 'title'
       AND NEW.metadata -> 'headings' IS NOT DISTINCT FROM OLD.metadata -> 'headings' THEN
        RETURN NEW;
    END IF;
    NEW.chunk_terms := public.aya_chunk_terms(NEW.chunk_text, NEW.metadata);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION public.aya_chunks_terms() IS '{version}';

-- A trigger and not a generated column: adding that would rewrite the table while nobody can read it.
ALTER TABLE chunks ADD COLUMN IF NOT EXISTS chunk_terms tsvector;
CREATE OR REPLACE TRIGGER chunks_terms BEFORE INSERT OR UPDATE OF chunk_text, metadata ON chunks
    FOR EACH ROW EXECUTE FUNCTION public.aya_chunks_terms();
-- Also in sessions that replicate or restore.
ALTER TABLE chunks ENABLE ALWAYS TRIGGER chunks_terms;
