SELECT s.*, u.email
FROM sessions s
JOIN users u ON u.id = s.user_id
WHERE ($1 IS NULL OR s.user_id = $1) AND s.revoked_at IS NULL AND s.expires_at > $2
ORDER BY u.email_key, s.created_at
