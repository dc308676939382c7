SELECT part, length, hash FROM record_chains WHERE chain = $1 AND organization_id = $2
