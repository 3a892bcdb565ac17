-- How far the WAL receiver called %(name)s has flushed, how far this history is known to go, and its timeline. A standby knows
-- that only while its own receiver hears from its primary.
SELECT (SELECT max(flush_lsn) - '0/0'::pg_lsn FROM pg_stat_replication WHERE application_name = %(name)s),
       CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() - '0/0'::pg_lsn
            ELSE (SELECT latest_end_lsn - '0/0'::pg_lsn FROM pg_stat_wal_receiver
                  WHERE status = 'streaming' AND last_msg_receipt_time > clock_timestamp() - make_interval(secs => %(silent_s)s))
       END,
       COALESCE((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint()))
