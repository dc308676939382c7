-- The server's version and clock, and whether tables can be created.
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::bigint AS number,
       clock_timestamp() AS now,
       pg_is_in_recovery() AS is_standby,
       has_schema_privilege('public', 'CREATE') AS may_create
