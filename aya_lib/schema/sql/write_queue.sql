CREATE TABLE IF NOT EXISTS write_queue (
    id serial PRIMARY KEY,
    operation varchar(10),
    table_name varchar(50),
    data jsonb,
    created_at timestamp DEFAULT now(),
    synced boolean DEFAULT false
);
