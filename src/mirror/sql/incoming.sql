-- Holds the lake's rows of some dates, to compare them with the rows in the database.
CREATE TEMPORARY TABLE mirror_incoming (
    asset_id UUID, timestamp TIMESTAMPTZ, value DOUBLE PRECISION, count BIGINT,
    min DOUBLE PRECISION, max DOUBLE PRECISION, first DOUBLE PRECISION, last DOUBLE PRECISION, stddev DOUBLE PRECISION
) ON COMMIT DROP
