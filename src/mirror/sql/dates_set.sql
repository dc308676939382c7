INSERT INTO mirror_dates (table_name, date, source)
SELECT $1, * FROM unnest($2::date[], $3::bytea[])
ON CONFLICT (table_name, date) DO UPDATE SET source = EXCLUDED.source
