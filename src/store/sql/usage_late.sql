-- The connection's time zone is UTC (sqlx sets it in Postgres), so a time's text begins with its UTC month.
SELECT
    o.id AS organization_id, o.name AS organization, l.billing_month,
    substr(CAST(l.ended_at AS TEXT), 1, 7) AS from_month,
    count(*) AS requests,
    CAST(sum(l.rows) AS BIGINT) AS rows,
    CAST(sum(l.bytes_sent) AS BIGINT) AS bytes_sent,
    CAST(sum(l.bytes_scanned) AS BIGINT) AS bytes_scanned
FROM organizations o
-- SQLite takes the tables of a cross join in their order: for each organisation its months, by the index.
CROSS JOIN api_usage_logs l
WHERE l.organization_id = o.id
    AND ($1 IS NULL OR o.id = $1)
    AND ($2 IS NULL OR l.user_id = $2)
    AND l.billing_month BETWEEN $3 AND $4
    AND l.billable
    AND l.billing_month <> substr(CAST(l.ended_at AS TEXT), 1, 7)
GROUP BY 1, 2, 3, 4
