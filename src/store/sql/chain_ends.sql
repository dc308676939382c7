SELECT chain, organization_id, length, hash FROM record_chains WHERE part = ''
