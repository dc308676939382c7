SELECT u.*, o.name AS organization, o.active AS organization_active
FROM users u
JOIN organizations o ON o.id = u.organization_id
WHERE u.removed_at IS NULL AND (u.id = $1 OR u.email_key = $2) AND ($3 IS NULL OR u.organization_id = $3)
ORDER BY u.created_at, u.id
LIMIT 1000
