INSERT INTO sessions (id, user_id, created_at, expires_at, client_address)
VALUES ($1, $2, $3, $4, $5)
