INSERT INTO usage_totals (organization_id, billing_month, requests, rows, bytes_sent, bytes_scanned)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (organization_id, billing_month) DO UPDATE SET
    requests = usage_totals.requests + excluded.requests, rows = usage_totals.rows + excluded.rows,
    bytes_sent = usage_totals.bytes_sent + excluded.bytes_sent,
    bytes_scanned = usage_totals.bytes_scanned + excluded.bytes_scanned
