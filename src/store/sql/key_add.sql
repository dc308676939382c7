INSERT INTO api_keys (id, user_id, name, secret_hash, may_ingest, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
