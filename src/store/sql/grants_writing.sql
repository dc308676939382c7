SELECT o.id, o.name, g.kind, g.value
FROM organization_grants g JOIN organizations o ON o.id = g.organization_id
WHERE g.may_write
ORDER BY o.name_key, o.id, g.kind, g.value
