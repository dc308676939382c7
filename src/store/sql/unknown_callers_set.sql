INSERT INTO unknown_callers (minute, client_address, server_id, calls) VALUES ($1, $2, $3, $4)
ON CONFLICT (minute, client_address, server_id) DO UPDATE SET calls = excluded.calls
