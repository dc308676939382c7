SELECT organization_id, requests, rows, bytes_sent, bytes_scanned FROM usage_totals WHERE billing_month = $1
