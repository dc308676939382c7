SELECT a.name, d.timestamp, d.value FROM data_h d JOIN assets a ON a.id = d.asset_id WHERE d.value > 75
