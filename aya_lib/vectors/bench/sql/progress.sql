-- How far the build of an index has come, from 0 to 1; the k-means of IVFFlat and waiting have no measure and give NULL.
SELECT phase,
       CASE WHEN tuples_total > 0 THEN tuples_done::float / tuples_total
            WHEN blocks_total > 0 THEN blocks_done::float / blocks_total END AS share
  FROM pg_stat_progress_create_index
 WHERE pid = %(pid)s
