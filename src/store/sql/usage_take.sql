UPDATE usage_ledger SET revision = revision + 1 WHERE only_row = 1
