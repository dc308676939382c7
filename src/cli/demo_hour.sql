-- The last whole hour of the sensor with the most readings that day.
WITH busiest AS (
  SELECT asset_id, timestamp AS hour
  FROM data_h
  ORDER BY timestamp DESC, count DESC, asset_id
  LIMIT 1
)
SELECT m.asset_id, m.timestamp, round(m.value, 3) AS value, m.count, m.min, m.max, m.first, m.last, round(m.stddev, 4) AS stddev
FROM data_min AS m
JOIN busiest AS b ON m.asset_id = b.asset_id AND date_trunc('hour', m.timestamp) = b.hour
ORDER BY m.timestamp
