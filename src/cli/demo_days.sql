SELECT a.name, d.timestamp, round(d.value, 3) AS value, d.count
FROM data_d AS d
JOIN assets AS a ON a.id = d.asset_id
WHERE d.timestamp = (SELECT max(timestamp) FROM data_d)
ORDER BY a.name
LIMIT 5
