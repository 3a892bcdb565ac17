-- Settings as they stand; own: set by ALTER SYSTEM, so that RESET would bring back another value. While archive_mode is off
-- the server shows no archive_command: the files say it then.
SELECT name,
       CASE WHEN setting <> '(disabled)' THEN setting
            ELSE coalesce((SELECT f.setting FROM pg_file_settings f WHERE f.name = s.name ORDER BY seqno DESC LIMIT 1), '')
       END AS value,
       coalesce(right(sourcefile, 20) = 'postgresql.auto.conf', false) AS own,
       pending_restart
  FROM pg_settings s
 WHERE name = ANY(%(names)s)
