SELECT t.at
FROM (SELECT id, at, actor FROM audit_trail WHERE organization_id = $1 ORDER BY id DESC LIMIT $4) t
WHERE t.actor = $2
ORDER BY t.id DESC
LIMIT 1 OFFSET $3
