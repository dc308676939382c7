UPDATE organization_grants SET may_write = FALSE
WHERE organization_id = $1 AND kind = $2 AND value = $3 AND may_write
