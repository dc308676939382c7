DELETE FROM organization_grants WHERE organization_id = $1 AND kind = $2 AND value = $3
