SELECT count(*) AS records FROM api_usage_logs WHERE organization_id = $1 AND billing_month = $2
