UPDATE organizations SET user_limit = $2, updated_at = $3 WHERE id = $1
