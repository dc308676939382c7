SELECT organization_id, billing_month FROM usage_statements WHERE billing_month >= $1
