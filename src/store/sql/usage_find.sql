SELECT request_id FROM api_usage_logs WHERE request_id = $1
