INSERT INTO api_usage_logs (
    request_id, organization_id, user_id, api_key_id, session_id, server_id, endpoint, sql_fingerprint, sql_text,
    started_at, ended_at, billing_month, first_byte_microseconds, duration_microseconds, rows, bytes_sent, bytes_scanned,
    status, cancelled, client_address, client_agent, billable, chain_sequence, chain_hash
)
VALUES
    ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)
ON CONFLICT (request_id) DO NOTHING
