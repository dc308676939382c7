UPDATE record_chains SET length = $3, hash = $4 WHERE chain = $1 AND organization_id = $2 AND part = ''
