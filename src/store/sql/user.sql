SELECT u.*, o.name AS organization, o.active AS organization_active
FROM users u
JOIN organizations o ON o.id = u.organization_id
WHERE u.removed_at IS NULL AND (u.id = $1 OR u.email_key = $2)
