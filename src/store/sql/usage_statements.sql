SELECT
    s.organization_id, o.name AS organization, s.billing_month, s.closed_at, s.closed_by, s.requests, s.late_requests,
    s.rows, s.bytes_sent, s.bytes_scanned, s.records_hash
FROM usage_statements s
JOIN organizations o ON o.id = s.organization_id
WHERE ($1 IS NULL OR s.organization_id = $1) AND s.billing_month BETWEEN $2 AND $3
