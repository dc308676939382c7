-- The connection's time zone is UTC (sqlx sets it in Postgres), so a time's text begins with its UTC day.
SELECT
    o.id AS organization_id, o.name AS organization, l.billing_month,
    CASE WHEN $5 THEN l.user_id END AS user_id,
    CASE WHEN $5 THEN u.email END AS user_email,
    CASE WHEN $6 THEN l.endpoint END AS endpoint,
    CASE WHEN $7 THEN substr(CAST(l.ended_at AS TEXT), 1, 10) END AS day,
    count(*) AS requests,
    count(*) FILTER (WHERE l.billable) AS billable_requests,
    count(*) FILTER (WHERE l.billable AND l.billing_month <> substr(CAST(l.ended_at AS TEXT), 1, 7)) AS late_requests,
    CAST(sum(CASE WHEN l.billable THEN l.rows ELSE 0 END) AS BIGINT) AS rows,
    CAST(sum(CASE WHEN l.billable THEN l.bytes_sent ELSE 0 END) AS BIGINT) AS bytes_sent,
    CAST(sum(CASE WHEN l.billable THEN l.bytes_scanned ELSE 0 END) AS BIGINT) AS bytes_scanned,
    count(*) FILTER (WHERE l.status NOT IN ('OK', 'ABORTED') AND NOT l.cancelled) AS errors,
    count(*) FILTER (WHERE l.cancelled) AS cancelled,
    count(*) FILTER (WHERE l.status = 'ABORTED' AND NOT l.cancelled) AS aborted
FROM organizations o
-- SQLite takes the tables of a cross join in their order: for each organisation its months, by the index.
CROSS JOIN api_usage_logs l
JOIN users u ON u.id = l.user_id
WHERE l.organization_id = o.id
    AND ($1 IS NULL OR o.id = $1)
    AND ($2 IS NULL OR l.user_id = $2)
    AND l.billing_month BETWEEN $3 AND $4
GROUP BY 1, 2, 3, 4, 5, 6, 7
