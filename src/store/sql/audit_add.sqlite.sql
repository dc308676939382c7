INSERT INTO audit_trail (id, at, actor, action, organization_id, subject, details, chain_sequence, chain_hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
