-- The months that organisations have records in, each found by one step in the index.
WITH RECURSIVE months (organization_id, billing_month) AS (
    SELECT o.id, (SELECT min(l.billing_month) FROM api_usage_logs l WHERE l.organization_id = o.id)
    FROM organizations o
    WHERE $1 IS NULL OR o.id = $1
    UNION ALL
    SELECT m.organization_id, (
        SELECT min(l.billing_month) FROM api_usage_logs l
        WHERE l.organization_id = m.organization_id AND l.billing_month > m.billing_month
    )
    FROM months m
    WHERE m.billing_month IS NOT NULL
)
SELECT organization_id, billing_month FROM months
WHERE billing_month IS NOT NULL AND billing_month <= $2
