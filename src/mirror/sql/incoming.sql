-- What the lake has for some dates, to be compared with what is there.
CREATE TEMPORARY TABLE mirror_incoming (
    asset_id UUID, timestamp TIMESTAMPTZ, value DOUBLE PRECISION, count BIGINT,
    min DOUBLE PRECISION, max DOUBLE PRECISION, first DOUBLE PRECISION, last DOUBLE PRECISION, stddev DOUBLE PRECISION
) ON COMMIT DROP
