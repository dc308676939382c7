INSERT INTO organization_limits (
    organization_id, requests_per_second, concurrent_queries, monthly_requests, monthly_bytes_sent, monthly_bytes_scanned,
    updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (organization_id) DO UPDATE SET
    requests_per_second = excluded.requests_per_second, concurrent_queries = excluded.concurrent_queries,
    monthly_requests = excluded.monthly_requests, monthly_bytes_sent = excluded.monthly_bytes_sent,
    monthly_bytes_scanned = excluded.monthly_bytes_scanned, updated_at = excluded.updated_at
