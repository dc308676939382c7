INSERT INTO usage_statements (
    organization_id, billing_month, closed_at, closed_by, requests, late_requests, rows, bytes_sent, bytes_scanned,
    records_hash
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
