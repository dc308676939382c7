-- Allows one mirror run at a time in a database. The numbers are "plan" and "mirr" in ASCII.
SELECT pg_try_advisory_lock(1886151022, 1835627122)
