SELECT count(*) AS n FROM sessions WHERE user_id = $1
