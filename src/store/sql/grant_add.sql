INSERT INTO organization_grants (organization_id, kind, value, created_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
