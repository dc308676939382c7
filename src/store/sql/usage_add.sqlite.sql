INSERT INTO api_usage_logs (
    request_id, organization_id, user_id, api_key_id, session_id, server_id, endpoint, sql_fingerprint, sql_text,
    started_at, ended_at, billing_month, first_byte_microseconds, duration_microseconds, rows, bytes_sent, bytes_scanned,
    status, cancelled, client_address, client_agent, billable
)
SELECT
    value ->> 'request_id', value ->> 'organization_id', value ->> 'user_id', value ->> 'api_key_id',
    value ->> 'session_id', value ->> 'server_id', value ->> 'endpoint', value ->> 'sql_fingerprint', value ->> 'sql_text',
    value ->> 'started_at', value ->> 'ended_at', value ->> 'billing_month', value ->> 'first_byte_microseconds',
    value ->> 'duration_microseconds', value ->> 'rows', value ->> 'bytes_sent', value ->> 'bytes_scanned',
    value ->> 'status', value ->> 'cancelled', value ->> 'client_address', value ->> 'client_agent', value ->> 'billable'
FROM json_each($1)
-- Without it, SQLite takes the conflict clause for part of the join.
WHERE true
ON CONFLICT (request_id) DO NOTHING
RETURNING organization_id, billing_month, rows, bytes_sent, bytes_scanned, billable
