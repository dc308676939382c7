-- A role without permission to read the holder's session gets nulls.
SELECT a.pid, a.application_name, host(a.client_addr) AS client, a.backend_start
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
    AND l.classid = 1886151022 AND l.objid = 1835627122
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
LIMIT 1
