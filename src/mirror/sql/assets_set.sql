-- Writes only rows that differ. A row that was just inserted has no former version, so its xmax is 0.
INSERT INTO assets (id, name, type, location, specifications)
SELECT id, name, type, location, specifications::jsonb
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS given (id, name, type, location, specifications)
ON CONFLICT (id) DO UPDATE SET
    name = EXCLUDED.name, type = EXCLUDED.type, location = EXCLUDED.location, specifications = EXCLUDED.specifications
WHERE (assets.name, assets.type, assets.location, assets.specifications)
    IS DISTINCT FROM (EXCLUDED.name, EXCLUDED.type, EXCLUDED.location, EXCLUDED.specifications)
RETURNING xmax = 0 AS is_new
