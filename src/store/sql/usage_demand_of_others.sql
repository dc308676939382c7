SELECT
    organization_id, SUM(requests_per_second) AS requests_per_second, CAST(SUM(running) AS BIGINT) AS running
FROM usage_demand
WHERE server_id <> $1 AND seen_at >= $2
GROUP BY organization_id
