UPDATE users SET removed_at = $2, updated_at = $2, active = FALSE, password_hash = NULL WHERE id = $1
