CREATE TABLE IF NOT EXISTS aya_settings (
    key text PRIMARY KEY,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON aya_settings TO {role};
