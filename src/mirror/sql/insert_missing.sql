-- Existing rows equal the incoming ones: rows that differed have just been deleted.
INSERT INTO data_x (COLUMNS)
SELECT COLUMNS FROM pg_temp.mirror_incoming
ON CONFLICT (asset_id, timestamp) DO NOTHING
