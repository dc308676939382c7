SELECT count(*) AS n FROM organization_grants WHERE organization_id = $1
