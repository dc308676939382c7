DELETE FROM usage_demand WHERE seen_at < $1
