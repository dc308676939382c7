INSERT INTO organizations
    (id, name, name_key, contact, address, billing_email, user_limit, active, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, TRUE, $8, $8)
