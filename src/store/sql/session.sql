SELECT s.*, u.email FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1
