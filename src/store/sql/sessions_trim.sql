DELETE FROM sessions
WHERE user_id = $1 AND id NOT IN (
    SELECT id FROM sessions
    WHERE user_id = $1
    ORDER BY CASE WHEN revoked_at IS NULL THEN 0 ELSE 1 END, created_at DESC, id DESC
    LIMIT $2
)
