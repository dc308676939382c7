SELECT u.*, o.name AS organization, o.active AS organization_active
FROM users u
JOIN organizations o ON o.id = u.organization_id
WHERE u.removed_at IS NULL AND ($1 IS NULL OR u.organization_id = $1)
ORDER BY o.name_key, u.email_key
