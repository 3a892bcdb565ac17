-- Runs as long as the session that builds is there, so that a lock of this transaction outlives a client that was killed.
DO $$
BEGIN
    WHILE EXISTS (SELECT FROM pg_stat_activity WHERE pid = current_setting('aya.builder')::int) LOOP
        PERFORM pg_sleep(0.2);
        PERFORM pg_stat_clear_snapshot();
    END LOOP;
END $$
