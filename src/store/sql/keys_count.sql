SELECT count(*) AS n
FROM api_keys k
JOIN users u ON u.id = k.user_id
WHERE u.organization_id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)
