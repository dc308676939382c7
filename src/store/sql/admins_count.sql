SELECT count(*) AS n
FROM users
WHERE organization_id = $1 AND role = 'admin' AND active AND removed_at IS NULL AND id <> $2
