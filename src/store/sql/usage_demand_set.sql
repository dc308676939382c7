INSERT INTO usage_demand (server_id, organization_id, seen_at, requests_per_second, running) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (server_id, organization_id) DO UPDATE SET
    seen_at = excluded.seen_at, requests_per_second = excluded.requests_per_second, running = excluded.running
