SELECT details FROM audit_trail
WHERE action = 'usage.close' AND organization_id = $1 AND subject = $2
ORDER BY id
