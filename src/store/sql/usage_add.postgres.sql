INSERT INTO api_usage_logs (
    request_id, organization_id, user_id, api_key_id, session_id, server_id, endpoint, sql_fingerprint, sql_text,
    started_at, ended_at, billing_month, first_byte_microseconds, duration_microseconds, rows, bytes_sent, bytes_scanned,
    status, cancelled, client_address, client_agent, billable
)
SELECT
    request_id, organization_id, user_id, api_key_id, session_id, server_id, endpoint, sql_fingerprint, sql_text,
    started_at, ended_at, billing_month, first_byte_microseconds, duration_microseconds, rows, bytes_sent, bytes_scanned,
    status, cancelled, client_address, client_agent, billable
FROM jsonb_to_recordset($1::jsonb) AS records (
    request_id UUID, organization_id UUID, user_id UUID, api_key_id TEXT, session_id UUID, server_id UUID, endpoint TEXT,
    sql_fingerprint TEXT, sql_text TEXT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, billing_month TEXT,
    first_byte_microseconds BIGINT, duration_microseconds BIGINT, rows BIGINT, bytes_sent BIGINT, bytes_scanned BIGINT,
    status TEXT, cancelled BOOLEAN, client_address TEXT, client_agent TEXT, billable BOOLEAN
)
ON CONFLICT (request_id) DO NOTHING
RETURNING organization_id, billing_month, rows, bytes_sent, bytes_scanned, billable
