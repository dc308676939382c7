INSERT INTO organization_grants (organization_id, kind, value, created_at, may_write)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (organization_id, kind, value) DO UPDATE SET may_write = TRUE
WHERE excluded.may_write AND NOT organization_grants.may_write
