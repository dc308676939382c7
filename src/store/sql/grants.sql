SELECT kind, value, may_write FROM organization_grants
WHERE organization_id = $1
ORDER BY kind, value
