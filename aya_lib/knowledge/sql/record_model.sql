INSERT INTO aya_settings (key, value) VALUES ('embedding', %(value)s) ON CONFLICT (key) DO NOTHING
