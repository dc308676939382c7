SELECT requests_per_second, concurrent_queries, monthly_requests, monthly_bytes_sent, monthly_bytes_scanned
FROM organization_limits WHERE organization_id = $1
