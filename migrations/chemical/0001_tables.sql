-- Recent averages, as dashboards and applications ask for them. `plantlake mirror` makes these tables equal to the lake
-- again and again: what others write into them is lost.

CREATE TABLE assets (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    location TEXT NOT NULL,
    specifications JSONB NOT NULL
);

-- The keys come with the next step: the first rows are there before them.

CREATE TABLE data_min (
    asset_id UUID NOT NULL,
    -- The minute's start.
    timestamp TIMESTAMPTZ NOT NULL,
    -- The arithmetic mean.
    value DOUBLE PRECISION NOT NULL,
    -- Of so many readings.
    count BIGINT NOT NULL,
    min DOUBLE PRECISION NOT NULL,
    max DOUBLE PRECISION NOT NULL,
    first DOUBLE PRECISION NOT NULL,
    last DOUBLE PRECISION NOT NULL,
    -- Of the sample; none for a single reading.
    stddev DOUBLE PRECISION
);

CREATE TABLE data_h (
    asset_id UUID NOT NULL,
    timestamp TIMESTAMPTZ NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    count BIGINT NOT NULL,
    min DOUBLE PRECISION NOT NULL,
    max DOUBLE PRECISION NOT NULL,
    first DOUBLE PRECISION NOT NULL,
    last DOUBLE PRECISION NOT NULL,
    stddev DOUBLE PRECISION
);

CREATE TABLE data_d (
    asset_id UUID NOT NULL,
    timestamp TIMESTAMPTZ NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    count BIGINT NOT NULL,
    min DOUBLE PRECISION NOT NULL,
    max DOUBLE PRECISION NOT NULL,
    first DOUBLE PRECISION NOT NULL,
    last DOUBLE PRECISION NOT NULL,
    stddev DOUBLE PRECISION
);

-- What each table was last made equal to.
CREATE TABLE mirror_state (
    table_name TEXT PRIMARY KEY,
    -- The lake, and its run whose averages these are.
    lake TEXT NOT NULL,
    run BIGINT NOT NULL,
    published_at TIMESTAMPTZ NOT NULL,
    -- The first date inside the window.
    first_date DATE NOT NULL,
    -- What is before this date is deleted already.
    pruned_to DATE NOT NULL,
    mirrored_at TIMESTAMPTZ NOT NULL
);

-- A hash over the names of the data files that each date came from: files never change, so the same names are the same rows.
CREATE TABLE mirror_dates (
    table_name TEXT NOT NULL REFERENCES mirror_state (table_name),
    date DATE NOT NULL,
    source BYTEA NOT NULL,
    PRIMARY KEY (table_name, date)
);
