SELECT email, active FROM users
WHERE organization_id = $1 AND removed_at IS NULL
ORDER BY email_key
