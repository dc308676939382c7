SELECT
    l.request_id, l.organization_id, l.user_id, u.email, l.api_key_id, l.session_id, l.server_id, l.endpoint,
    l.sql_fingerprint, CASE WHEN $9 THEN l.sql_text END AS sql_text, l.started_at, l.ended_at, l.billing_month,
    l.first_byte_microseconds, l.duration_microseconds, l.rows, l.bytes_sent, l.bytes_scanned, l.status, l.cancelled,
    l.client_address, l.client_agent, l.billable
FROM api_usage_logs l
JOIN users u ON u.id = l.user_id
WHERE l.organization_id = $1
    AND (l.billing_month, l.ended_at, l.request_id) > ($2, $3, $4)
    AND l.billing_month <= $5
    AND l.ended_at BETWEEN $6 AND $7
    AND ($8 IS NULL OR l.user_id = $8)
ORDER BY l.billing_month, l.ended_at, l.request_id
LIMIT $10
