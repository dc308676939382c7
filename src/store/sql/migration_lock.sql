SELECT pg_advisory_lock(hashtext('plantlake migration'))
