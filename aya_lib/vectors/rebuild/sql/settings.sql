-- Merge into what is stored for searching; keys of others stay.
INSERT INTO aya_settings (key, value) VALUES ('search', %(put)s)
ON CONFLICT (key) DO UPDATE SET value = (aya_settings.value - %(drop)s::text[]) || excluded.value, updated_at = now()
