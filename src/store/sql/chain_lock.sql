UPDATE record_chains SET length = length
WHERE chain = $1 AND organization_id = $2 AND part = ''
RETURNING length, hash
