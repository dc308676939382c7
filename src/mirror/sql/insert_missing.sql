-- Existing rows equal the incoming ones: rows that differed have just been deleted.
INSERT INTO data_x (asset_id, timestamp, value, count, min, max, first, last, stddev)
SELECT asset_id, timestamp, value, count, min, max, first, last, stddev FROM pg_temp.mirror_incoming
ON CONFLICT (asset_id, timestamp) DO NOTHING
