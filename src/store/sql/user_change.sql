UPDATE users SET name = $2, role = $3, may_ingest = $4, updated_at = $5 WHERE id = $1
