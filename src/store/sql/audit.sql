SELECT a.id, a.at, a.actor, a.action, a.organization_id, o.name AS organization, a.subject, a.details
FROM audit_trail a
LEFT JOIN organizations o ON o.id = a.organization_id
WHERE $1 IS NULL OR a.organization_id = $1
ORDER BY a.id DESC
LIMIT $2
