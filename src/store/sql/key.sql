SELECT k.*, u.email, u.organization_id, o.name AS organization
FROM api_keys k
JOIN users u ON u.id = k.user_id
JOIN organizations o ON o.id = u.organization_id
WHERE k.id = $1
