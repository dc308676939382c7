-- What was used: the ledger of requests, and what invoices are made of.

-- The ledger: one row for each request of a known organisation, written once and never changed.
CREATE TABLE api_usage_logs (
    -- A UUIDv7, which the client was given in the response's headers.
    request_id UUID PRIMARY KEY,
    organization_id UUID NOT NULL REFERENCES organizations (id),
    user_id UUID NOT NULL REFERENCES users (id),
    -- What the user proved who they are with: one of the two.
    api_key_id TEXT REFERENCES api_keys (id),
    session_id UUID,
    -- The run of a server that answered.
    server_id UUID NOT NULL,
    -- The RPC and the command in it, such as DoGet/StatementQuery.
    endpoint TEXT NOT NULL,
    -- SHA-256 of the statement with its literals left out, in hexadecimal; none for calls without a statement.
    sql_fingerprint TEXT,
    -- The statement itself, where the setting metering.sql says so.
    sql_text TEXT,
    started_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ NOT NULL,
    -- The UTC month that it is billed in, as 2026-11: the month of ended_at, or if that was closed already, the first one
    -- after it that was not.
    billing_month TEXT NOT NULL,
    -- From the start to the first message of the answer; none if there was no message.
    first_byte_microseconds BIGINT,
    duration_microseconds BIGINT NOT NULL,
    -- Rows that were sent, or taken in by an ingest.
    rows BIGINT NOT NULL,
    -- Messages of the answer, as they were encoded.
    bytes_sent BIGINT NOT NULL,
    -- Of the lake's files.
    bytes_scanned BIGINT NOT NULL,
    -- How gRPC names it: OK, INVALID_ARGUMENT, …; ABORTED where the server died before the answer was whole.
    status TEXT NOT NULL,
    -- The client went away or cancelled before the answer was whole.
    cancelled BOOLEAN NOT NULL,
    client_address TEXT NOT NULL,
    client_agent TEXT NOT NULL,
    -- Running a statement is, an ingest too; the calls around it are not.
    billable BOOLEAN NOT NULL
);
CREATE INDEX api_usage_logs_month ON api_usage_logs (organization_id, billing_month, ended_at, request_id);

CREATE FUNCTION api_usage_logs_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the usage ledger is append-only';
END
$$;
CREATE TRIGGER api_usage_logs_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON api_usage_logs
    FOR EACH STATEMENT EXECUTE FUNCTION api_usage_logs_is_append_only();

-- One row that whoever adds to the ledger or closes a month takes first: so that no request comes into a month while it
-- is being closed.
CREATE TABLE usage_ledger (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    revision BIGINT NOT NULL
);
INSERT INTO usage_ledger (only_row, revision) VALUES (1, 0);

-- Sums of the ledger's billable requests, grown with it: what quotas are compared with.
CREATE TABLE usage_totals (
    organization_id UUID NOT NULL REFERENCES organizations (id),
    billing_month TEXT NOT NULL,
    requests BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    bytes_sent BIGINT NOT NULL,
    bytes_scanned BIGINT NOT NULL,
    PRIMARY KEY (organization_id, billing_month)
);

-- Calls that nobody is known to have made, since no good credential came with them.
CREATE TABLE unknown_callers (
    minute TIMESTAMPTZ NOT NULL,
    client_address TEXT NOT NULL,
    -- Each run of a server counts for itself.
    server_id UUID NOT NULL,
    calls BIGINT NOT NULL,
    PRIMARY KEY (minute, client_address, server_id)
);

-- What an organisation may use; null for as much as it likes.
CREATE TABLE organization_limits (
    organization_id UUID PRIMARY KEY REFERENCES organizations (id),
    requests_per_second DOUBLE PRECISION CHECK (requests_per_second > 0),
    concurrent_queries BIGINT CHECK (concurrent_queries > 0),
    -- In a UTC month, of billable requests.
    monthly_requests BIGINT CHECK (monthly_requests >= 0),
    monthly_bytes_sent BIGINT CHECK (monthly_bytes_sent >= 0),
    monthly_bytes_scanned BIGINT CHECK (monthly_bytes_scanned >= 0),
    updated_at TIMESTAMPTZ NOT NULL
);

-- What limited organisations ask of each run of a server at the moment: servers divide limits by it.
CREATE TABLE usage_demand (
    server_id UUID NOT NULL,
    organization_id UUID NOT NULL REFERENCES organizations (id),
    seen_at TIMESTAMPTZ NOT NULL,
    requests_per_second DOUBLE PRECISION NOT NULL,
    running BIGINT NOT NULL,
    PRIMARY KEY (server_id, organization_id)
);

-- A closed month of an organisation: what its invoice is made of. Never changed.
CREATE TABLE usage_statements (
    organization_id UUID NOT NULL REFERENCES organizations (id),
    billing_month TEXT NOT NULL,
    closed_at TIMESTAMPTZ NOT NULL,
    closed_by TEXT NOT NULL,
    -- Billable requests; of those, the ones that had ended in an earlier month that was closed already.
    requests BIGINT NOT NULL,
    late_requests BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    bytes_sent BIGINT NOT NULL,
    bytes_scanned BIGINT NOT NULL,
    -- SHA-256 over the month's records as src/store/usage_hash.rs writes them, in hexadecimal.
    records_hash TEXT NOT NULL,
    PRIMARY KEY (organization_id, billing_month)
);
CREATE TRIGGER usage_statements_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_statements
    FOR EACH STATEMENT EXECUTE FUNCTION api_usage_logs_is_append_only();

-- What an organisation used in a UTC month, by user and endpoint: rows and bytes of billable requests, as it is billed.
CREATE FUNCTION get_monthly_usage_report(org UUID, month DATE)
RETURNS TABLE (
    organization TEXT,
    billing_month TEXT,
    user_email TEXT,
    endpoint TEXT,
    requests BIGINT,
    billable_requests BIGINT,
    late_requests BIGINT,
    rows BIGINT,
    bytes_sent BIGINT,
    bytes_scanned BIGINT,
    errors BIGINT,
    cancelled BIGINT,
    aborted BIGINT
)
LANGUAGE sql STABLE AS $$
    SELECT
        o.name, l.billing_month, u.email, l.endpoint,
        count(*),
        count(*) FILTER (WHERE l.billable),
        count(*) FILTER (WHERE l.billable AND l.billing_month <> to_char(l.ended_at AT TIME ZONE 'UTC', 'YYYY-MM')),
        CAST(coalesce(sum(l.rows) FILTER (WHERE l.billable), 0) AS BIGINT),
        CAST(coalesce(sum(l.bytes_sent) FILTER (WHERE l.billable), 0) AS BIGINT),
        CAST(coalesce(sum(l.bytes_scanned) FILTER (WHERE l.billable), 0) AS BIGINT),
        count(*) FILTER (WHERE l.status NOT IN ('OK', 'ABORTED') AND NOT l.cancelled),
        count(*) FILTER (WHERE l.cancelled),
        count(*) FILTER (WHERE l.status = 'ABORTED' AND NOT l.cancelled)
    FROM api_usage_logs l
    JOIN organizations o ON o.id = l.organization_id
    JOIN users u ON u.id = l.user_id
    WHERE l.organization_id = $1 AND l.billing_month = to_char($2, 'YYYY-MM')
    GROUP BY o.name, l.billing_month, u.id, u.email, l.endpoint
    ORDER BY u.email COLLATE "C", u.id, l.endpoint COLLATE "C"
$$;
