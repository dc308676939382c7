SELECT k.*, u.email, u.organization_id, o.name AS organization
FROM api_keys k
JOIN users u ON u.id = k.user_id
JOIN organizations o ON o.id = u.organization_id
WHERE ($1 IS NULL OR u.organization_id = $1) AND ($2 IS NULL OR k.user_id = $2)
ORDER BY o.name_key, u.email_key, k.created_at
