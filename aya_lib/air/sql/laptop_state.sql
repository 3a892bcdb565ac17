SELECT client::text, phase, round, snapshot::text AS snapshot, log::bigint AS log, system_identifier, timeline,
       lsn::text AS lsn, copied_documents, copied_chunks, columns
  FROM aya_sync.laptop
