INSERT INTO users
    (id, organization_id, email, email_key, name, role, password_hash, may_ingest, active, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, TRUE, $9, $9)
