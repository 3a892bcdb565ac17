UPDATE aya_sync.laptop
   SET phase = 'ready', snapshot = %(snapshot)s, log = %(log)s, system_identifier = %(system_identifier)s,
       timeline = %(timeline)s, lsn = %(lsn)s, round = %(round)s, synced_at = now()
