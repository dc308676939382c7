SELECT o.*,
    (SELECT count(*) FROM users u WHERE u.organization_id = o.id AND u.removed_at IS NULL) AS users
FROM organizations o
WHERE o.id = $1 OR o.name_key = $2
