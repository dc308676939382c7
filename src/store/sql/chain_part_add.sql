INSERT INTO record_chains (chain, organization_id, part, length, hash) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (chain, organization_id, part) DO NOTHING
